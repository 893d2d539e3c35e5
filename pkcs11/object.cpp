// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/object.h"

#include <algorithm>

#include "pkcs11/attributes.h"
#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

constexpr CK_ULONG kPage = 64;
constexpr std::size_t kMaxObjects = 1'000'000;  // beyond it, the search has no end
constexpr CK_ULONG kLargestAttribute = 16384;

std::vector<CK_OBJECT_HANDLE> find_all(Session& session, Attributes& wanted) {
  session.require_login();
  const MutexLock searching(session.searching());
  check(session.c().C_FindObjectsInit(session.handle(), wanted.data(), wanted.size()),
        "C_FindObjectsInit");
  std::vector<CK_OBJECT_HANDLE> all;
  CK_RV rv = CKR_OK;
  bool impossible = false;
  for (;;) {
    CK_OBJECT_HANDLE page[kPage] = {};
    CK_ULONG count = 0;
    rv = session.c().C_FindObjects(session.handle(), page, kPage, &count);
    if (rv != CKR_OK || count == 0) break;
    impossible = count > kPage || all.size() > kMaxObjects;
    if (impossible) break;
    all.insert(all.end(), page, page + count);
  }
  session.c().C_FindObjectsFinal(session.handle());
  check(rv, "C_FindObjects");
  if (impossible) throw Error(Error::Kind::kOutput, "C_FindObjects: invalid count");
  return all;
}

// CKR_GENERAL_ERROR also for a length that none of our attributes has (RELIABILITY 52).
CK_RV read_into(Session& session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, Bytes& value) {
  CK_ATTRIBUTE attribute{type, nullptr, 0};
  CK_RV rv = session.c().C_GetAttributeValue(session.handle(), object, &attribute, 1);
  if (rv != CKR_OK) return rv;
  if (attribute.ulValueLen > kLargestAttribute) return CKR_GENERAL_ERROR;
  value.resize(attribute.ulValueLen);
  attribute.pValue = value.data();
  rv = session.c().C_GetAttributeValue(session.handle(), object, &attribute, 1);
  if (rv != CKR_OK) return rv;
  if (attribute.ulValueLen > value.size()) return CKR_GENERAL_ERROR;
  value.resize(attribute.ulValueLen);
  return CKR_OK;
}

// nullopt: not there or not readable.
std::optional<Bytes> read_attribute(Session& session, CK_OBJECT_HANDLE object,
                                    CK_ATTRIBUTE_TYPE type) {
  Bytes value;
  if (read_into(session, object, type, value) != CKR_OK) return std::nullopt;
  return value;
}

CK_RV read_into(Session& session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                CK_ULONG& value) {
  CK_ATTRIBUTE attribute{type, &value, sizeof value};
  const CK_RV rv = session.c().C_GetAttributeValue(session.handle(), object, &attribute, 1);
  return rv == CKR_OK && attribute.ulValueLen != sizeof value ? CKR_GENERAL_ERROR : rv;
}

std::optional<CK_ULONG> read_ulong(Session& session, CK_OBJECT_HANDLE object,
                                   CK_ATTRIBUTE_TYPE type) {
  CK_ULONG value = 0;
  if (read_into(session, object, type, value) != CKR_OK) return std::nullopt;
  return value;
}

std::optional<bool> read_bool(Session& session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type) {
  CK_BBOOL value = CK_FALSE;
  CK_ATTRIBUTE attribute{type, &value, sizeof value};
  const CK_RV rv = session.c().C_GetAttributeValue(session.handle(), object, &attribute, 1);
  if (rv != CKR_OK || attribute.ulValueLen != sizeof value) return std::nullopt;
  return value != CK_FALSE;
}

// Whether the token failed, rather than this object alone: what it does not read is not absent.
bool is_of_token(CK_RV rv) {
  switch (rv_class(rv)) {
    case RvClass::kSession:
    case RvClass::kDevice:
    case RvClass::kCapacity:
    case RvClass::kLogin:
      return true;
    default:
      return false;
  }
}

// An object that another session destroyed meanwhile has no class anymore, and what a crash left of
// one may have none: such an object is left out.
std::vector<ObjectInfo> describe_all(Session& session, Attributes& wanted) {
  std::vector<ObjectInfo> infos;
  CK_RV unreadable = CKR_OK;
  for (const CK_OBJECT_HANDLE handle : find_all(session, wanted)) {
    ObjectInfo info;
    info.handle = handle;
    CK_RV rv = read_into(session, handle, CKA_CLASS, info.object_class);
    if (rv == CKR_OBJECT_HANDLE_INVALID) continue;
    if (is_of_token(rv)) check(rv, "C_GetAttributeValue");
    if (rv_class(rv) == RvClass::kAmbiguous) unreadable = rv;
    if (rv != CKR_OK) continue;
    // Without its id a key would count as absent. Objects without one are not ours.
    rv = read_into(session, handle, CKA_ID, info.cka_id);
    if (rv == CKR_OBJECT_HANDLE_INVALID) continue;
    if (is_of_token(rv)) check(rv, "C_GetAttributeValue");
    if (rv != CKR_OK) info.cka_id.clear();
    const auto label = read_attribute(session, handle, CKA_LABEL).value_or(Bytes{});
    info.label.assign(label.begin(), label.end());
    info.key_type = read_ulong(session, handle, CKA_KEY_TYPE);
    infos.push_back(std::move(info));
  }
  if (infos.empty()) check(unreadable, "C_GetAttributeValue");
  return infos;
}

void select_data(Attributes& wanted, const std::string& application, const std::string& label) {
  wanted.add_ulong(CKA_CLASS, CKO_DATA)
      .add_text(CKA_APPLICATION, application)
      .add_text(CKA_LABEL, label);
}

void destroy_handles(Session& session, const std::vector<CK_OBJECT_HANDLE>& handles) {
  for (const CK_OBJECT_HANDLE handle : handles) {
    check_expecting(session.c().C_DestroyObject(session.handle(), handle), "C_DestroyObject",
                    {CKR_OBJECT_HANDLE_INVALID});
  }
}

// --- attempts to take a key out
// -------------------------------------------------------------------------------------------------

CK_ATTRIBUTE_TYPE value_attribute(Session& session, CK_OBJECT_HANDLE key,
                                  CK_OBJECT_CLASS object_class) {
  if (object_class == CKO_SECRET_KEY) return CKA_VALUE;
  return read_ulong(session, key, CKA_KEY_TYPE) == CKK_RSA ? CKA_PRIVATE_EXPONENT : CKA_VALUE;
}

bool try_to_read(Session& session, CK_OBJECT_HANDLE key, CK_OBJECT_CLASS object_class,
                 std::string& answer) {
  SecretBytes value(8192);
  CK_ATTRIBUTE attribute{value_attribute(session, key, object_class), value.data(),
                         static_cast<CK_ULONG>(value.size())};
  const CK_RV rv = session.c().C_GetAttributeValue(session.handle(), key, &attribute, 1);
  answer = rv_name(rv);
  // Some tokens answer OK with no value at all: nothing came out then.
  const bool empty =
      attribute.ulValueLen == 0 || attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION;
  if (rv == CKR_OK && empty) answer += " with an empty value";
  return rv == CKR_OK && !empty;
}

bool try_to_wrap(Session& session, CK_OBJECT_HANDLE key, std::string& answer) {
  auto& c = session.c();
  Attributes wrapping;
  wrapping.add_bool(CKA_TOKEN, false).add_bool(CKA_WRAP, true).add_ulong(CKA_VALUE_LEN, 32);
  CK_MECHANISM generate{CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE handle = 0;
  const CK_RV made =
      c.C_GenerateKey(session.handle(), &generate, wrapping.data(), wrapping.size(), &handle);
  if (made != CKR_OK) {
    answer = "cannot create a wrapping key: " + rv_name(made);
    return false;
  }
  SecretBytes wrapped(8192);
  CK_RV rv = CKR_OK;
  for (const CK_MECHANISM_TYPE type : {CKM_AES_KEY_WRAP, static_cast<CK_MECHANISM_TYPE>(0x210A)}) {
    CK_MECHANISM mechanism{type, nullptr, 0};
    CK_ULONG size = wrapped.size();
    rv = c.C_WrapKey(session.handle(), &mechanism, handle, key, wrapped.data(), &size);
    if (rv == CKR_OK) break;
  }
  c.C_DestroyObject(session.handle(), handle);
  answer = rv_name(rv);
  return rv == CKR_OK;
}

bool try_to_copy(Session& session, CK_OBJECT_HANDLE key, CK_OBJECT_CLASS object_class,
                 std::string& answer) {
  Attributes readable;
  readable.add_bool(CKA_TOKEN, false)
      .add_bool(CKA_SENSITIVE, false)
      .add_bool(CKA_EXTRACTABLE, true);
  CK_OBJECT_HANDLE copy = 0;
  const CK_RV rv =
      session.c().C_CopyObject(session.handle(), key, readable.data(), readable.size(), &copy);
  answer = rv_name(rv);
  if (rv != CKR_OK) return false;
  std::string ignored;
  const bool out = try_to_read(session, copy, object_class, ignored);
  session.c().C_DestroyObject(session.handle(), copy);
  return out;
}

CK_OBJECT_HANDLE find_token_object(Session& session, const KeyId& id) {
  const auto found = find_handles(session, id);
  if (found.size() != 1) {
    throw Error(Error::Kind::kObject, "the token has " + std::to_string(found.size()) +
                                          " key objects under this CKA_ID, not one");
  }
  return found.front();
}

}  // namespace

std::vector<ObjectInfo> list_objects(Session& session,
                                     std::optional<CK_OBJECT_CLASS> object_class) {
  Attributes wanted;
  wanted.add_bool(CKA_TOKEN, true);
  if (object_class) wanted.add_ulong(CKA_CLASS, *object_class);
  return describe_all(session, wanted);
}

std::vector<ObjectInfo> find_objects(Session& session, const Bytes& cka_id) {
  Attributes wanted;
  wanted.add_bool(CKA_TOKEN, true).add(CKA_ID, cka_id);
  return describe_all(session, wanted);
}

std::vector<CK_OBJECT_HANDLE> find_handles(Session& session, const KeyId& id) {
  Attributes wanted;
  wanted.add_bool(CKA_TOKEN, true).add_ulong(CKA_CLASS, id.object_class).add(CKA_ID, id.cka_id);
  return find_all(session, wanted);
}

std::vector<Bytes> read_data(Session& session, const std::string& application,
                             const std::string& label) {
  Attributes wanted;
  select_data(wanted, application, label);
  std::vector<Bytes> values;
  for (const CK_OBJECT_HANDLE handle : find_all(session, wanted)) {
    Bytes value;
    const CK_RV rv = read_into(session, handle, CKA_VALUE, value);
    if (rv == CKR_OBJECT_HANDLE_INVALID) continue;  // replaced meanwhile
    check(rv, "C_GetAttributeValue");
    values.push_back(std::move(value));
  }
  return values;
}

void replace_data(Session& session, const std::string& application, const std::string& label,
                  ByteView value) {
  Attributes wanted;
  select_data(wanted, application, label);
  const auto older = find_all(session, wanted);
  Attributes fresh;
  select_data(fresh, application, label);
  fresh.add_bool(CKA_TOKEN, true).add_bool(CKA_PRIVATE, true).add(CKA_VALUE, value);
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_CreateObject(session.handle(), fresh.data(), fresh.size(), &handle),
        "C_CreateObject");
  destroy_handles(session, older);
}

void destroy_data(Session& session, const std::string& application, const std::string& label) {
  Attributes wanted;
  select_data(wanted, application, label);
  destroy_handles(session, find_all(session, wanted));
}

bool Custody::holds() const {
  return read_refused && wrap_refused && copy_refused && sensitive != false && extractable != true;
}

bool Custody::holds_but_wrapped() const {
  return read_refused && copy_refused && sensitive == true;
}

Custody prove_custody(Session& session, const KeyId& id) {
  const CK_OBJECT_HANDLE key = find_token_object(session, id);
  Custody custody;
  const auto reads = [&](CK_ATTRIBUTE_TYPE type) { return read_bool(session, key, type); };
  custody.local = reads(CKA_LOCAL);
  custody.sensitive = reads(CKA_SENSITIVE);
  custody.always_sensitive = reads(CKA_ALWAYS_SENSITIVE);
  custody.extractable = reads(CKA_EXTRACTABLE);
  custody.never_extractable = reads(CKA_NEVER_EXTRACTABLE);
  custody.modifiable = reads(CKA_MODIFIABLE);
  custody.copyable = reads(CKA_COPYABLE);
  custody.decrypt = reads(CKA_DECRYPT);
  custody.sign = reads(CKA_SIGN);
  custody.derive = reads(CKA_DERIVE);
  custody.unwrap = reads(CKA_UNWRAP);
  if (id.object_class == CKO_SECRET_KEY) {
    custody.wrap = reads(CKA_WRAP);
    custody.encrypt = reads(CKA_ENCRYPT);
  }
  custody.read_refused = !try_to_read(session, key, id.object_class, custody.read_answer);
  custody.wrap_refused = !try_to_wrap(session, key, custody.wrap_answer);
  custody.copy_refused = !try_to_copy(session, key, id.object_class, custody.copy_answer);
  return custody;
}

}  // namespace keyagent::pkcs11
