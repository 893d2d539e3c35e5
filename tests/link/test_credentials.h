// SPDX-License-Identifier: Apache-2.0
#pragma once
// The credentials of a test's instance.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "agent/base/key_ops.h"
#include "agent/envelope/envelope.h"
#include "agent/tls/http.h"

namespace keyagent::test {

// Not thread-safe.
class TestCredentials {
 public:
  void put(const std::string& name, const std::string& value);
  // Sealed by its author, to this key and to no other.
  void put_blind(const std::string& name, const PublicKeyInfo& key) { blind_[name] = key; }
  // Its envelope is sealed to this key instead.
  void put_envelope(const std::string& name, const PublicKeyInfo& key, const std::string& value) {
    envelopes_[name] = {key, value};
  }
  // The context that its envelopes carry instead of the correct one; nullopt: none.
  void put_binding(const std::string& name, const std::optional<envelope::Binding>& binding) {
    bindings_[name] = binding;
  }
  // Acts as a restored store: this version with this value is the newest.
  void roll_back(const std::string& name, int version, const std::string& value) {
    values_[name] = value;
    versions_[name] = version;
  }
  void withdraw(const std::string& name) { values_.erase(name); }
  // It is listed, and every request for it is answered BUSY.
  void hold(const std::string& name, bool held) {
    if (held) held_.insert(name);
    if (!held) held_.erase(name);
  }

  // For an agent with this key.
  tls::HttpResponse list(const PublicKeyInfo& transport) const;
  // `staged`: the key that a rekey has proved, or none.
  tls::HttpResponse give(const tls::HttpRequest& request, const std::string& agent,
                         const PublicKeyInfo& transport, const PublicKeyInfo* staged) const;

 private:
  std::map<std::string, std::string> values_;
  std::map<std::string, int> versions_;
  std::map<std::string, PublicKeyInfo> blind_;
  std::set<std::string> held_;
  std::map<std::string, std::optional<envelope::Binding>> bindings_;
  std::map<std::string, std::pair<PublicKeyInfo, std::string>> envelopes_;
};

}  // namespace keyagent::test
