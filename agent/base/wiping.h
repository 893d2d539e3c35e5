// SPDX-License-Identifier: Apache-2.0
#pragma once
// For secrets that a library needs as std::string or JSON. Otherwise use SecretBytes.

#include <openssl/crypto.h>

#include <string>

namespace keyagent {

// Overwrites the text; its length stays.
inline void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
}

// Overwrites every text in it.
template <class Json>
requires requires(Json& json) {
  json.is_structured();
}
void wipe(Json& json) {
  if (json.is_string()) {
    wipe(json.template get_ref<std::string&>());
  } else if (json.is_structured()) {
    for (auto& each : json) wipe(each);
  }
}

// Wipes what it is given when it goes. REQUIRES: that lives longer.
template <class Secret>
class Wiping {
 public:
  explicit Wiping(Secret& secret) : secret_(secret) {}
  ~Wiping() { wipe(secret_); }
  Wiping(const Wiping&) = delete;
  Wiping& operator=(const Wiping&) = delete;

 private:
  Secret& secret_;
};

}  // namespace keyagent
