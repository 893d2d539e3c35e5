#pragma once
// The credentials of a test's instance.

#include <map>
#include <string>
#include <utility>

#include "agent/base/key_ops.h"
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
  void withdraw(const std::string& name) { values_.erase(name); }

  // For an agent with this key.
  tls::HttpResponse list(const PublicKeyInfo& transport) const;
  // `staged`: the key that a rekey has proved, or none.
  tls::HttpResponse give(const tls::HttpRequest& request, const PublicKeyInfo& transport,
                         const PublicKeyInfo* staged) const;

 private:
  std::map<std::string, std::string> values_;
  std::map<std::string, int> versions_;
  std::map<std::string, PublicKeyInfo> blind_;
  std::map<std::string, std::pair<PublicKeyInfo, std::string>> envelopes_;
};

}  // namespace keyagent::test
