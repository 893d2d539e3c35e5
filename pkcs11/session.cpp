// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/session.h"

#include <utility>

#include "pkcs11/attributes.h"
#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

// Exactly one token object of this id and class: the first of several is not "the" key (RELIABILITY
// 53).
CK_OBJECT_HANDLE find_one(const Session& session, const KeyId& id) {
  auto& c = session.c();
  Attributes wanted;
  wanted.add_ulong(CKA_CLASS, id.object_class).add(CKA_ID, id.cka_id).add_bool(CKA_TOKEN, true);
  check(c.C_FindObjectsInit(session.handle(), wanted.data(), wanted.size()), "C_FindObjectsInit");
  CK_OBJECT_HANDLE found[2] = {};
  CK_ULONG count = 0;
  const CK_RV rv = c.C_FindObjects(session.handle(), found, 2, &count);
  c.C_FindObjectsFinal(session.handle());
  check(rv, "C_FindObjects");
  if (count == 0) {
    session.require_login();
    throw Error(Error::Kind::kObject, "the token has no such key object");
  }
  if (count > 1)
    throw Error(Error::Kind::kObject, "the token has several key objects under one CKA_ID");
  return found[0];
}

bool reads_true(CK_FUNCTION_LIST& c, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                CK_ATTRIBUTE_TYPE type) {
  CK_BBOOL value = CK_FALSE;
  CK_ATTRIBUTE attribute{type, &value, sizeof value};
  return c.C_GetAttributeValue(session, object, &attribute, 1) == CKR_OK &&
         attribute.ulValueLen == sizeof value && value == CK_TRUE;
}

}  // namespace

Session::Session(std::shared_ptr<Module> module, CK_SLOT_ID slot, const Profile& profile)
    : module_(std::move(module)), epoch_(module_->epoch()), profile_(profile) {
  check(c().C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &handle_),
        "C_OpenSession");
}

Session::~Session() {
  // Closing the session destroys its session copies too. It does not log out: the login belongs to
  // the token. After a re-initialization the handle may be another session's, and in a forked child
  // it is the parent's.
  if (handle_ != 0 && module_->ours() && epoch_ == module_->epoch()) c().C_CloseSession(handle_);
}

CK_OBJECT_HANDLE Session::key(const KeyId& id) {
  const auto cached = keys_.find(id);
  if (cached != keys_.end()) return cached->second;
  const MutexLock searching(module_->searching());
  CK_OBJECT_HANDLE object = find_one(*this, id);
  if (id.object_class == CKO_PRIVATE_KEY &&
      reads_true(c(), handle_, object, CKA_ALWAYS_AUTHENTICATE)) {
    throw Error(Error::Kind::kUnsupported,
                "this key requires the PIN for each use (CKA_ALWAYS_AUTHENTICATE); an unattended "
                "agent cannot use it");
  }
  const bool copy = profile_.session_copies && id.object_class == CKO_PRIVATE_KEY &&
                    reads_true(c(), handle_, object, CKA_SIGN) &&
                    reads_true(c(), handle_, object, CKA_COPYABLE);
  if (copy) {
    Attributes changed;
    changed.add_bool(CKA_TOKEN, false).add_bool(CKA_MODIFIABLE, false);
    CK_OBJECT_HANDLE session_copy = 0;
    check(c().C_CopyObject(handle_, object, changed.data(), changed.size(), &session_copy),
          "C_CopyObject");
    object = session_copy;
  }
  keys_.emplace(id, object);
  return object;
}

void Session::require_login() const {
  CK_SESSION_INFO info{};
  check(c().C_GetSessionInfo(handle_, &info), "C_GetSessionInfo");
  if (info.state != CKS_RW_USER_FUNCTIONS) check(CKR_USER_NOT_LOGGED_IN, "C_FindObjects");
}

void Session::forget(const KeyId& id) {
  keys_.erase(id);
}

}  // namespace keyagent::pkcs11
