// SPDX-License-Identifier: Apache-2.0
#pragma once
// Logging in once, without ever spending a PIN attempt that could lock the token.

#include <p11-kit/pkcs11.h>

#include <filesystem>
#include <string>

#include "pkcs11/profile.h"
#include "pkcs11/secret.h"

namespace keyagent::pkcs11 {

// Remembers the PIN that the token refused as an Argon2id hash, in memory and in a file (0600)
// where one is named. One thread at a time.
class RefusedPin {
 public:
  explicit RefusedPin(std::filesystem::path file) : file_(std::move(file)) {}
  bool is(const SecretBytes& pin) const;
  // Throws Error{kPinRefused} when the file cannot be written: an attempt that would be forgotten
  // must not be repeated.
  void remember(const SecretBytes& pin);
  // False: a refusal could not be written to its file.
  bool recordable() const;
  void clear();
  // For this process's life only: the reason is not the PIN itself (it has expired, say).
  void note_here(const SecretBytes& pin);
  // The same: the token said that its PIN is locked, whatever its flags say.
  void note_locked(const SecretBytes& pin);
  bool locked() const { return locked_; }

 private:
  static std::string salted_hash(const SecretBytes& pin);
  std::string read() const;
  std::filesystem::path file_;
  std::string memory_;  // "salt:hash" in hex
  bool locked_ = false;
};

// Logs the user in on `session`, which belongs to the slot of `info`. No attempt at all when the
// token says that its PIN is locked or has one try left (Error{kPinLocked}, Error{kPinLastTry}), or
// when this PIN was refused before or cannot be had from its source (Error{kPinRefused}).
// CKR_USER_ALREADY_LOGGED_IN is success only in the user state. At most one C_Login. Never logs
// out.
void log_in(CK_FUNCTION_LIST& functions, CK_SESSION_HANDLE session, const CK_TOKEN_INFO& info,
            const Profile& profile, const PinSource& source, RefusedPin& refused);

}  // namespace keyagent::pkcs11
