// SPDX-License-Identifier: Apache-2.0
#pragma once
// A CK_ATTRIBUTE template that owns its values.

#include <p11-kit/pkcs11.h>

#include <deque>
#include <string_view>
#include <vector>

#include "pkcs11/secret.h"

namespace keyagent::pkcs11 {

// Not thread-safe. The pointers inside live as long as the object; it is not copied for that
// reason.
class Attributes {
 public:
  Attributes() = default;
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;

  Attributes& add(CK_ATTRIBUTE_TYPE type, ByteView value) {
    values_.emplace_back(value.begin(), value.end());
    list_.push_back({type, values_.back().data(), static_cast<CK_ULONG>(values_.back().size())});
    return *this;
  }
  Attributes& add_bool(CK_ATTRIBUTE_TYPE type, bool value) {
    const CK_BBOOL byte = value ? CK_TRUE : CK_FALSE;
    return add(type, {&byte, 1});
  }
  Attributes& add_ulong(CK_ATTRIBUTE_TYPE type, CK_ULONG value) {
    return add(type, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
  }
  Attributes& add_text(CK_ATTRIBUTE_TYPE type, std::string_view text) {
    return add(type, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  CK_ATTRIBUTE* data() { return list_.data(); }
  CK_ULONG size() const { return static_cast<CK_ULONG>(list_.size()); }

 private:
  std::deque<SecretBytes> values_;  // a template may hold a key value (C_CreateObject)
  std::vector<CK_ATTRIBUTE> list_;
};

}  // namespace keyagent::pkcs11
