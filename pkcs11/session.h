// SPDX-License-Identifier: Apache-2.0
#pragma once
// One PKCS#11 session and the cache of key handles that live as long as it.

#include <p11-kit/pkcs11.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "agent/base/mutex.h"
#include "pkcs11/module.h"
#include "pkcs11/profile.h"
#include "pkcs11/secret.h"

namespace keyagent::pkcs11 {

// Names an object forever: handles are only a cache of it (habit 7).
struct KeyId {
  Bytes cka_id;
  CK_OBJECT_CLASS object_class = CKO_PRIVATE_KEY;
  auto operator<=>(const KeyId&) const = default;
};

// Not thread-safe: one thread at a time, by lease. Closes its session when destroyed, never logs
// out.
class Session {
 public:
  // Opens a read/write session. `profile` must outlive it. Throws Error{kRv}.
  // REQUIRES (as every use and the destructor do): the caller holds the module's Entry.
  Session(std::shared_ptr<Module> module, CK_SLOT_ID slot, const Profile& profile);
  ~Session();
  Session(const Session&) = delete;

  CK_SESSION_HANDLE handle() const { return handle_; }
  // Raw Cryptoki, for the functions of object.h, key.h and mechanism.h.
  CK_FUNCTION_LIST& c() const { return *module_->functions(); }
  const Profile& profile() const { return profile_; }
  Mutex& searching() const { return module_->searching(); }  // for the searches of object.h

  // The handle of exactly one token object with this id and class; found once, then cached. With
  // profile.session_copies a signing private key that may be copied is represented by a session
  // copy (X: +40 % on SoftHSM). Throws Error{kObject} for none ("not found") or several ("duplicate
  // CKA_ID").
  CK_OBJECT_HANDLE key(const KeyId& id);
  // Throws Error{kRv} CKR_USER_NOT_LOGGED_IN unless the session is in the user state: what a search
  // does not find there may only be invisible (RELIABILITY 30).
  void require_login() const;
  // Drops one cached handle (after CKR_KEY_HANDLE_INVALID, or when the object was destroyed).
  void forget(const KeyId& id);
  // An operation was started and may still be active: the lease closes this session instead of
  // pooling it.
  void mark_unusable() { soiled_ = true; }
  bool soiled() const { return soiled_; }

 private:
  std::shared_ptr<Module> module_;
  const std::uint64_t epoch_;  // of the module when the session was opened
  const Profile& profile_;
  CK_SESSION_HANDLE handle_ = 0;
  bool soiled_ = false;
  std::map<KeyId, CK_OBJECT_HANDLE> keys_;
};

}  // namespace keyagent::pkcs11
