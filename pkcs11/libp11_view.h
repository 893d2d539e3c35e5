// SPDX-License-Identifier: Apache-2.0
#pragma once
// libp11: initialization, PINs, enumeration, and a second, independent reading of a token for
// `doctor`. Not in the daemon's process: libp11 has its own module lifetime (DESIGN decision 1).

#include <string>
#include <vector>

#include "pkcs11/profile.h"
#include "pkcs11/secret.h"
#include "pkcs11/token.h"

namespace keyagent::pkcs11 {

struct TokenListing {
  std::string label, serial, manufacturer, model;
  bool initialized = false, user_pin_set = false, login_required = false, pin_count_low = false,
       pin_final_try = false, pin_locked = false;
};

struct KeyListing {
  Bytes id;
  std::string label;
  bool is_private = false;
};

// One module, loaded for one command. Not thread-safe. All throw Error.
class Libp11View {
 public:
  Libp11View(const Profile& profile, const std::filesystem::path& state_folder);
  ~Libp11View();
  Libp11View(const Libp11View&) = delete;

  std::vector<TokenListing> tokens();
  // Initializes a free token. Refuses a label that a token already has (Error{kObject}): never
  // re-initializes. Returns the new token's listing (the slot is found again by label, numbers may
  // have changed).
  TokenListing init_token(const std::string& label, const SecretBytes& so_pin,
                          const SecretBytes& user_pin);
  // PIN of the user, or of the SO. One attempt; refuses when the token reports that one try is
  // left.
  void change_pin(const TokenSelector& selector, const SecretBytes& old_pin,
                  const SecretBytes& new_pin, bool of_so = false);
  std::vector<KeyListing> keys(const TokenSelector& selector, const SecretBytes& user_pin);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::pkcs11
