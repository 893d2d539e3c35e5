// SPDX-License-Identifier: Apache-2.0
// Key management: provider-keymgmt(7) for RSA, EC and ED25519.

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstring>

#include "agent/openssl/context.h"

namespace keyagent::openssl {
namespace {

template <Type type>
void* fresh(void* provider) {
  auto* handle = new Handle{static_cast<const Context*>(provider), {}};
  handle->key.type = type;
  return handle;
}

void release(void* key) {
  delete static_cast<Handle*>(key);
}

// What the store or the decoder made; the reference is its address.
void* load(const void* reference, std::size_t size) {
  if (reference == nullptr || size != sizeof(void*)) return nullptr;
  void* handle = nullptr;
  std::memcpy(&handle, reference, sizeof(void*));
  return handle;
}

int has(const void* data, int selection) {
  const auto* handle = static_cast<const Handle*>(data);
  if (handle == nullptr) return 0;
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && !handle->key.has_private()) return 0;
  if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 && !handle->key.has_public()) return 0;
  return 1;
}

int match(const void* one, const void* other, int selection) {
  const Key& a = static_cast<const Handle*>(one)->key;
  const Key& b = static_cast<const Handle*>(other)->key;
  const bool same = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0
                        ? a.same_public(b)
                        : a.type == b.type && a.group == b.group;
  return same ? 1 : 0;
}

// --- parameters
// -------------------------------------------------------------------------------------------------

// OSSL_PARAM keeps integers in the machine's byte order.
Bytes little_endian(const Bytes& number) {
  return {number.rbegin(), number.rend()};
}

int set_number(OSSL_PARAM params[], const char* name, const Bytes& value) {
  OSSL_PARAM* wanted = OSSL_PARAM_locate(params, name);
  if (wanted == nullptr) return 1;
  wanted->return_size = value.size();
  if (wanted->data == nullptr) return 1;
  if (wanted->data_size < value.size()) return 0;
  const Bytes native = little_endian(value);
  std::memset(wanted->data, 0, wanted->data_size);
  std::memcpy(wanted->data, native.data(), native.size());
  wanted->return_size = wanted->data_size;
  return 1;
}

int set_octets(OSSL_PARAM params[], const char* name, const Bytes& value) {
  OSSL_PARAM* wanted = OSSL_PARAM_locate(params, name);
  return wanted == nullptr || OSSL_PARAM_set_octet_string(wanted, value.data(), value.size()) != 0
             ? 1
             : 0;
}

int set_text(OSSL_PARAM params[], const char* name, const char* value) {
  OSSL_PARAM* wanted = OSSL_PARAM_locate(params, name);
  return wanted == nullptr || OSSL_PARAM_set_utf8_string(wanted, value) != 0 ? 1 : 0;
}

int set_int(OSSL_PARAM params[], const char* name, int value) {
  OSSL_PARAM* wanted = OSSL_PARAM_locate(params, name);
  return wanted == nullptr || OSSL_PARAM_set_int(wanted, value) != 0 ? 1 : 0;
}

// None of a key that has a group only.
int set_point(OSSL_PARAM params[], const Key& key) {
  if (key.point.empty()) return 1;
  const auto x = key.point.begin() + 1, y = x + static_cast<long>(key.field_size());
  return set_octets(params, OSSL_PKEY_PARAM_PUB_KEY, key.point) &
         set_octets(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, key.point) &
         set_number(params, OSSL_PKEY_PARAM_EC_PUB_X, Bytes(x, y)) &
         set_number(params, OSSL_PKEY_PARAM_EC_PUB_Y, Bytes(y, key.point.end()));
}

int get_params(void* data, OSSL_PARAM params[]) {
  const Key& key = static_cast<Handle*>(data)->key;
  int good = set_int(params, OSSL_PKEY_PARAM_BITS, key.bits()) &
             set_int(params, OSSL_PKEY_PARAM_SECURITY_BITS, key.security_bits()) &
             set_int(params, OSSL_PKEY_PARAM_MAX_SIZE, static_cast<int>(key.signature_size()));
  switch (key.type) {
    case Type::kRsa:
      good &= set_number(params, OSSL_PKEY_PARAM_RSA_N, key.modulus) &
              set_number(params, OSSL_PKEY_PARAM_RSA_E, key.exponent) &
              set_text(params, OSSL_PKEY_PARAM_DEFAULT_DIGEST, "SHA256");
      break;
    case Type::kEc:
      good &= set_text(params, OSSL_PKEY_PARAM_GROUP_NAME, key.group.c_str()) &
              set_text(params, OSSL_PKEY_PARAM_DEFAULT_DIGEST,
                       key.group == "secp384r1" ? "SHA384" : "SHA256") &
              set_point(params, key);
      break;
    case Type::kEd25519:
      good &= set_text(params, OSSL_PKEY_PARAM_MANDATORY_DIGEST, "") &
              set_octets(params, OSSL_PKEY_PARAM_PUB_KEY, key.point) &
              set_octets(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, key.point);
      break;
  }
  return good;
}

#define KEYAGENT_COMMON                                       \
  OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, nullptr),              \
      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, nullptr), \
      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, nullptr)
#define KEYAGENT_RSA_PUBLIC \
  OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, nullptr, 0), OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, nullptr, 0)
#define KEYAGENT_EC_PUBLIC                                        \
  OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0), \
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0)
#define KEYAGENT_ED_PUBLIC OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0)

template <Type type>
const OSSL_PARAM* public_params(int selection) {
  static const OSSL_PARAM kNone[] = {OSSL_PARAM_END};
  static const OSSL_PARAM kRsa[] = {KEYAGENT_RSA_PUBLIC, OSSL_PARAM_END};
  static const OSSL_PARAM kEc[] = {KEYAGENT_EC_PUBLIC, OSSL_PARAM_END};
  static const OSSL_PARAM kEd[] = {KEYAGENT_ED_PUBLIC, OSSL_PARAM_END};
  if ((selection & (OSSL_KEYMGMT_SELECT_PUBLIC_KEY | OSSL_KEYMGMT_SELECT_ALL_PARAMETERS)) == 0)
    return kNone;
  return type == Type::kRsa ? kRsa : type == Type::kEc ? kEc : kEd;
}

template <Type type>
const OSSL_PARAM* gettable_params(void*) {
  static const OSSL_PARAM kRsa[] = {
      KEYAGENT_COMMON, KEYAGENT_RSA_PUBLIC,
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, nullptr, 0), OSSL_PARAM_END};
  static const OSSL_PARAM kEc[] = {
      KEYAGENT_COMMON,
      KEYAGENT_EC_PUBLIC,
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, nullptr, 0),
      OSSL_PARAM_END};
  static const OSSL_PARAM kEd[] = {
      KEYAGENT_COMMON, KEYAGENT_ED_PUBLIC,
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, nullptr, 0), OSSL_PARAM_END};
  return type == Type::kRsa ? kRsa : type == Type::kEc ? kEc : kEd;
}

// Exports the public half only when it is requested alone. A key with a private half must not look
// like a public key to another provider: OpenSSL then selects this one for signing.
int export_key(void* data, int selection, OSSL_CALLBACK* callback, void* argument) {
  const Key& key = static_cast<Handle*>(data)->key;
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) return 0;
  const bool with_point = (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0;
  Bytes n = little_endian(key.modulus), e = little_endian(key.exponent), point = key.point;
  std::string group = key.group;
  OSSL_PARAM params[3] = {OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END};
  if (key.type == Type::kRsa) {
    params[0] = OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, n.data(), n.size());
    params[1] = OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_E, e.data(), e.size());
  } else {
    OSSL_PARAM* at = params;
    if (key.type == Type::kEc)
      *at++ = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0);
    if (with_point)
      *at++ =
          OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  }
  return callback(params, argument);
}

Bytes number_of(const OSSL_PARAM* param) {
  if (param == nullptr || param->data_type != OSSL_PARAM_UNSIGNED_INTEGER) return {};
  const auto* data = static_cast<const std::uint8_t*>(param->data);
  Bytes value(data, data + param->data_size);
  while (!value.empty() && value.back() == 0) value.pop_back();
  std::reverse(value.begin(), value.end());
  return value;
}

// Imports a public key for comparison with ours, as X509_check_private_key() does.
int import_key(void* data, int selection, const OSSL_PARAM params[]) {
  Key& key = static_cast<Handle*>(data)->key;
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 &&
      (OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_D) != nullptr ||
       OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PRIV_KEY) != nullptr))
    return 0;
  key.modulus = number_of(OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_N));
  key.exponent = number_of(OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_E));
  const OSSL_PARAM* point = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
  if (point != nullptr) {
    const auto* bytes = static_cast<const std::uint8_t*>(point->data);
    key.point.assign(bytes, bytes + point->data_size);
  }
  const OSSL_PARAM* group = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);
  if (group != nullptr)
    key.group.assign(static_cast<const char*>(group->data),
                     ::strnlen(static_cast<const char*>(group->data), group->data_size));
  const bool group_only = (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 && !key.group.empty();
  return key.has_public() || group_only ? 1 : 0;
}

// The point of a key that has a group only: CMS makes the originator's key so (RFC 5753 §3.1.1).
int set_params(void* data, const OSSL_PARAM params[]) {
  const auto* handle = static_cast<Handle*>(data);
  Key& key = static_cast<Handle*>(data)->key;
  const OSSL_PARAM* point = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
  if (point == nullptr) return 1;
  return handle->context->guarded([&] {
    const void* bytes = nullptr;
    std::size_t size = 0;
    if (key.has_private() || OSSL_PARAM_get_octet_string_ptr(point, &bytes, &size) == 0)
      throw Error(Code::kUsage, "the public key of this key cannot be changed");
    const auto* first = static_cast<const std::uint8_t*>(bytes);
    key.point.assign(first, first + size);
    return 1;
  });
}

const OSSL_PARAM* settable_params(void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0), OSSL_PARAM_END};
  return kParams;
}

const char* rsa_operation(int operation) {
  return operation == OSSL_OP_SIGNATURE || operation == OSSL_OP_ASYM_CIPHER ? "RSA" : nullptr;
}
const char* ec_operation(int operation) {
  return operation == OSSL_OP_SIGNATURE ? "ECDSA" : operation == OSSL_OP_KEYEXCH ? "ECDH" : nullptr;
}
const char* ed_operation(int operation) {
  return operation == OSSL_OP_SIGNATURE ? "ED25519" : nullptr;
}

// --- making a key in the token: openssl genpkey -provider keyagent -propquery provider=keyagent
// -------------------------------------------------------------------------------------------------

constexpr const char* kName = "keyagent-name";
constexpr const char* kPurpose = "keyagent-purpose";

struct Generation {
  const Context* context;
  Type type;
  std::string name, purpose = "sign", group = "prime256v1";
  unsigned bits = 3072;
};

template <Type type>
void* begin_generation(void* provider, int, const OSSL_PARAM params[]);

int set_generation(void* data, const OSSL_PARAM params[]) {
  auto& generation = *static_cast<Generation*>(data);
  const auto text = [&](const char* name, std::string& value) {
    const OSSL_PARAM* param = OSSL_PARAM_locate_const(params, name);
    const char* given = nullptr;
    if (param != nullptr && OSSL_PARAM_get_utf8_string_ptr(param, &given) != 0) value = given;
  };
  text(kName, generation.name);
  text(kPurpose, generation.purpose);
  text(OSSL_PKEY_PARAM_GROUP_NAME, generation.group);
  const OSSL_PARAM* bits = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_BITS);
  return bits == nullptr || OSSL_PARAM_get_uint(bits, &generation.bits) != 0 ? 1 : 0;
}

template <Type type>
void* begin_generation(void* provider, int, const OSSL_PARAM params[]) {
  auto* generation = new Generation{static_cast<const Context*>(provider), type, {}};
  if (params != nullptr) set_generation(generation, params);
  return generation;
}

const OSSL_PARAM* settable_generation(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_utf8_string(kName, nullptr, 0), OSSL_PARAM_utf8_string(kPurpose, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
      OSSL_PARAM_uint(OSSL_PKEY_PARAM_RSA_BITS, nullptr), OSSL_PARAM_END};
  return kParams;
}

KeyAlgorithm algorithm_of(const Generation& wanted) {
  if (wanted.type == Type::kEd25519) return KeyAlgorithm::kEd25519;
  if (wanted.type == Type::kRsa) {
    if (const auto rsa = key_algorithm_of("rsa-" + std::to_string(wanted.bits))) return *rsa;
    throw Error(Code::kUsage, "cannot generate an RSA key of " + std::to_string(wanted.bits) +
                                  " bits: use 2048, 3072 or 4096");
  }
  if (wanted.group == "prime256v1" || wanted.group == "P-256") return KeyAlgorithm::kEcP256;
  if (wanted.group == "secp384r1" || wanted.group == "P-384") return KeyAlgorithm::kEcP384;
  throw Error(Code::kUsage,
              "cannot generate a key of the group " + wanted.group + ": use P-256 or P-384");
}

void* generate(void* data, OSSL_CALLBACK*, void*) {
  const auto& wanted = *static_cast<Generation*>(data);
  Handle* made = nullptr;
  wanted.context->guarded([&] {
    if (wanted.name.empty())
      throw Error(Code::kUsage,
                  "a key of the agent needs a name: -pkeyopt keyagent-name:NAME (and "
                  "keyagent-purpose:auth for TLS)");
    const auto& backend = wanted.context->backend();
    const auto info = backend->create(wanted.name, algorithm_of(wanted), wanted.purpose);
    made = new Handle{wanted.context, make_key(info, backend)};
    return 1;
  });
  return made;
}

void end_generation(void* data) {
  delete static_cast<Generation*>(data);
}

template <Type type>
const OSSL_DISPATCH* functions() {
  static const OSSL_DISPATCH kFunctions[] = {
      {OSSL_FUNC_KEYMGMT_NEW, as_function(fresh<type>)},
      {OSSL_FUNC_KEYMGMT_FREE, as_function(release)},
      {OSSL_FUNC_KEYMGMT_LOAD, as_function(load)},
      {OSSL_FUNC_KEYMGMT_HAS, as_function(has)},
      {OSSL_FUNC_KEYMGMT_MATCH, as_function(match)},
      {OSSL_FUNC_KEYMGMT_GET_PARAMS, as_function(get_params)},
      {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, as_function(gettable_params<type>)},
      {OSSL_FUNC_KEYMGMT_SET_PARAMS, as_function(set_params)},
      {OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, as_function(settable_params)},
      {OSSL_FUNC_KEYMGMT_EXPORT, as_function(export_key)},
      {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, as_function(public_params<type>)},
      {OSSL_FUNC_KEYMGMT_IMPORT, as_function(import_key)},
      {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, as_function(public_params<type>)},
      {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, as_function(type == Type::kRsa  ? rsa_operation
                                                           : type == Type::kEc ? ec_operation
                                                                               : ed_operation)},
      {OSSL_FUNC_KEYMGMT_GEN_INIT, as_function(begin_generation<type>)},
      {OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, as_function(set_generation)},
      {OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, as_function(settable_generation)},
      {OSSL_FUNC_KEYMGMT_GEN, as_function(generate)},
      {OSSL_FUNC_KEYMGMT_GEN_CLEANUP, as_function(end_generation)},
      {0, nullptr}};
  return kFunctions;
}

}  // namespace

const OSSL_ALGORITHM* keymgmt_algorithms() {
  static const OSSL_ALGORITHM kAlgorithms[] = {
      {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=keyagent", functions<Type::kRsa>(),
       "RSA keys of the agent"},
      {"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=keyagent", functions<Type::kEc>(),
       "EC keys of the agent"},
      {"ED25519:1.3.101.112", "provider=keyagent", functions<Type::kEd25519>(),
       "Ed25519 keys of the agent"},
      {nullptr, nullptr, nullptr, nullptr}};
  return kAlgorithms;
}

}  // namespace keyagent::openssl
