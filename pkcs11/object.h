// SPDX-License-Identifier: Apache-2.0
#pragma once
// Objects as a listing shows them, data objects, and the attributes that custody rests on.

#include <optional>
#include <string>
#include <vector>

#include "pkcs11/session.h"

namespace keyagent::pkcs11 {

struct ObjectInfo {
  CK_OBJECT_HANDLE handle = 0;  // valid for the session that listed it
  CK_OBJECT_CLASS object_class = 0;
  Bytes cka_id;
  std::string label;
  std::optional<CK_KEY_TYPE> key_type;
};

// All objects that this session sees, or those of one class. Pages by 64. Throws where the token
// does not read them: they are not absent.
std::vector<ObjectInfo> list_objects(Session& session,
                                     std::optional<CK_OBJECT_CLASS> object_class = {});
// Those with this id, of any class.
std::vector<ObjectInfo> find_objects(Session& session, const Bytes& cka_id);
// Of one class; reads no attribute.
std::vector<CK_OBJECT_HANDLE> find_handles(Session& session, const KeyId& id);

// Private data objects (CKO_DATA) of one application and label: small facts that live in the token.
// Throws for one that cannot be read.
std::vector<Bytes> read_data(Session& session, const std::string& application,
                             const std::string& label);
// Writes a new one, then destroys the older ones: after a crash there may be two, never none.
void replace_data(Session& session, const std::string& application, const std::string& label,
                  ByteView value);
void destroy_data(Session& session, const std::string& application, const std::string& label);

// The token's attributes of a key, and the results of attempts to extract it. nullopt: the
// attribute is not reported.
struct Custody {
  std::optional<bool> local, sensitive, always_sensitive, extractable, never_extractable,
      modifiable, copyable;
  std::optional<bool> sign, decrypt, derive, unwrap, wrap, encrypt;
  bool read_refused = false;  // C_GetAttributeValue of the private value was refused
  std::string read_answer;    // the CKR name it answered
  bool wrap_refused =
      false;  // C_WrapKey under a fresh AES key was refused, or the token cannot wrap at all
  std::string wrap_answer;
  bool copy_refused = false;  // C_CopyObject to a readable copy was refused
  std::string copy_answer;
  // True when every attempt was refused and no attribute reports the key as extractable.
  bool holds() const;
  // The same for a key that was created to be exported wrapped, and in no other way.
  bool holds_but_wrapped() const;
};
// Real attempts (RELIABILITY 60). A value that a token gives up is wiped at once and never
// returned.
Custody prove_custody(Session& session, const KeyId& id);

}  // namespace keyagent::pkcs11
