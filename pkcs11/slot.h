// SPDX-License-Identifier: Apache-2.0
#pragma once
// Finding a token by what it is, never by the number of its slot.

#include <p11-kit/pkcs11.h>

#include <string>

#include "pkcs11/token.h"

namespace keyagent::pkcs11 {

struct SlotMatch {
  CK_SLOT_ID slot = 0;
  CK_TOKEN_INFO info{};
};

// The one slot whose token has the selector's label and serial (both compared where given). Reads
// the slot list again. Throws Error{kTokenAbsent} for none, Error{kAmbiguousToken} for two,
// Error{kRv} for a module that does not answer.
SlotMatch find_slot(CK_FUNCTION_LIST& functions, const TokenSelector& selector);

// A blank-padded field of CK_TOKEN_INFO without its padding.
template <std::size_t size>
std::string padded_text(const CK_UTF8CHAR (&field)[size]) {
  std::string text(reinterpret_cast<const char*>(field), size);
  const auto end = text.find_last_not_of(std::string(" \0", 2));
  text.resize(end == std::string::npos ? 0 : end + 1);
  return text;
}

}  // namespace keyagent::pkcs11
