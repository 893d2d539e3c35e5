// SPDX-License-Identifier: Apache-2.0
#pragma once
// Logging in once, without ever spending a PIN attempt that could lock the token.

#include <p11-kit/pkcs11.h>

#include <filesystem>
#include <string>
#include <vector>

#include "pkcs11/profile.h"
#include "pkcs11/secret.h"

namespace keyagent::pkcs11 {

// Which token it is: another text for another token of the same label, and once a user PIN was set
// in one that had none.
std::string identity_of(const CK_TOKEN_INFO& info);

// Remembers the PIN that a token (identity_of()) refused as an Argon2id hash, in memory and in a
// file (0600) where one is named. One thread at a time.
class RefusedPin {
 public:
  explicit RefusedPin(std::filesystem::path file) : file_(std::move(file)) {}
  // An empty token: of any.
  bool is(const SecretBytes& pin, const std::string& token = {}) const;
  // Throws Error{kPinRefused} when the file cannot be written: an attempt that would be forgotten
  // must not be repeated.
  void remember(const SecretBytes& pin, const std::string& token);
  // Empty: memory only.
  const std::filesystem::path& file() const { return file_; }
  // A file that was removed since it was written: its operator wants what it recorded to be tried
  // once more.
  void forget_removed();
  // False: a refusal could not be written to its file.
  bool recordable() const;
  void clear(const std::string& token);
  // For the lifetime of this process only: the reason is not the PIN itself (for example, it has
  // expired).
  void note_here(const SecretBytes& pin, const std::string& token);
  // The same: the token answered that its PIN is locked, regardless of its flags.
  void note_locked(const SecretBytes& pin, const std::string& token);
  bool locked(const std::string& token) const { return locked_ == token; }

 private:
  using Lines = std::vector<std::string>;  // "salt:hash:token" in hex, the newest first
  Lines recorded() const;
  std::filesystem::path file_;
  Lines recorded_;        // as in the file; empty: not read
  bool written_ = false;  // recorded_ is in the file
  Lines noted_;           // those that are not in the file
  std::string locked_;    // the token whose PIN is locked; empty: none
};

// Logs the user in on `session`, which belongs to the slot of `info`. Makes no attempt when the
// token reports that its PIN is locked or has one try left (Error{kPinLocked}, Error{kPinLastTry}),
// or when this PIN was refused before or cannot be read from its source (Error{kPinRefused}).
// CKR_USER_ALREADY_LOGGED_IN is success only in the user state. At most one C_Login. Never logs
// out.
void log_in(CK_FUNCTION_LIST& functions, CK_SESSION_HANDLE session, const CK_TOKEN_INFO& info,
            const Profile& profile, const PinSource& source, RefusedPin& refused);

}  // namespace keyagent::pkcs11
