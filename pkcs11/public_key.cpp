// SPDX-License-Identifier: Apache-2.0
// From a token's public attributes to a SubjectPublicKeyInfo.

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <memory>
#include <optional>

#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/key_template.h"
#include "pkcs11/object.h"

namespace keyagent::pkcs11 {
namespace {

using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;
using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;
using ParamBuild = std::unique_ptr<OSSL_PARAM_BLD, decltype(&OSSL_PARAM_BLD_free)>;
using Params = std::unique_ptr<OSSL_PARAM, decltype(&OSSL_PARAM_free)>;

constexpr CK_ULONG kLargest = 2048;

Bytes read(Session& session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type) {
  Bytes value(kLargest);
  CK_ATTRIBUTE attribute{type, value.data(), kLargest};
  check(session.c().C_GetAttributeValue(session.handle(), object, &attribute, 1),
        "C_GetAttributeValue");
  if (attribute.ulValueLen > kLargest)
    throw Error(Error::Kind::kOutput, "C_GetAttributeValue: invalid length");
  value.resize(attribute.ulValueLen);
  return value;
}

[[noreturn]] void throw_malformed(const char* what) {
  throw Error(Error::Kind::kOutput, std::string("the token's public key is malformed: ") + what);
}

Bytes encode(const Pkey& key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key.get(), &der);
  if (size <= 0) throw_malformed("it has no DER form");
  const std::unique_ptr<unsigned char, void (*)(unsigned char*)> owner(
      der, [](unsigned char* p) { OPENSSL_free(p); });
  return Bytes(der, der + size);
}

Pkey from_params(const char* type, OSSL_PARAM* params) {
  const PkeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr), EVP_PKEY_CTX_free);
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
    throw_malformed("it is not a key of its type");
  }
  return Pkey(key, EVP_PKEY_free);
}

Bytes rsa_spki(const Bytes& modulus, const Bytes& exponent) {
  const Number n(BN_bin2bn(modulus.data(), static_cast<int>(modulus.size()), nullptr), BN_free);
  const Number e(BN_bin2bn(exponent.data(), static_cast<int>(exponent.size()), nullptr), BN_free);
  const ParamBuild build(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  const Params params(OSSL_PARAM_BLD_to_param(build.get()), OSSL_PARAM_free);
  return encode(from_params("RSA", params.get()));
}

// CKA_EC_POINT is a DER OCTET STRING by the standard, raw on some tokens. The expected length
// decides, never the first byte (RELIABILITY 62: a raw point may look like DER).
Bytes unwrap_point(const Bytes& value, std::size_t expected) {
  if (value.size() == expected) return value;
  const bool is_der = value.size() == expected + 2 && value[0] == 0x04 && value[1] == expected;
  const bool is_long_der =
      value.size() == expected + 3 && value[0] == 0x04 && value[1] == 0x81 && value[2] == expected;
  if (!is_der && !is_long_der) throw_malformed("CKA_EC_POINT has a wrong length");
  return Bytes(value.end() - static_cast<std::ptrdiff_t>(expected), value.end());
}

Bytes ec_spki(const char* curve, const Bytes& point) {
  const ParamBuild build(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
  OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve, 0);
  OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  const Params params(OSSL_PARAM_BLD_to_param(build.get()), OSSL_PARAM_free);
  const Pkey key = from_params("EC", params.get());
  const PkeyContext context(EVP_PKEY_CTX_new(key.get(), nullptr), EVP_PKEY_CTX_free);
  if (EVP_PKEY_public_check(context.get()) != 1) throw_malformed("its point is not on its curve");
  return encode(key);
}

Bytes ed25519_spki(const Bytes& point) {
  const Pkey key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, point.data(), point.size()),
                 EVP_PKEY_free);
  if (!key) throw_malformed("it is not an Ed25519 key");
  return encode(key);
}

Bytes spki_of(Session& session, CK_OBJECT_HANDLE object) {
  const Bytes type_bytes = read(session, object, CKA_KEY_TYPE);
  CK_KEY_TYPE type = 0;
  if (type_bytes.size() != sizeof type) throw_malformed("CKA_KEY_TYPE");
  std::copy(type_bytes.begin(), type_bytes.end(), reinterpret_cast<std::uint8_t*>(&type));
  if (type == CKK_RSA)
    return rsa_spki(read(session, object, CKA_MODULUS), read(session, object, CKA_PUBLIC_EXPONENT));
  const Bytes params = read(session, object, CKA_EC_PARAMS);
  const Bytes point = read(session, object, CKA_EC_POINT);
  if (type == CKK_EC_EDWARDS) return ed25519_spki(unwrap_point(point, 32));
  if (params == ec_params(KeyKind::kEcP256)) return ec_spki("P-256", unwrap_point(point, 65));
  if (params == ec_params(KeyKind::kEcP384)) return ec_spki("P-384", unwrap_point(point, 97));
  throw_malformed("its curve is unsupported");
}

}  // namespace

Bytes read_public_key(Session& session, const Bytes& cka_id) {
  std::optional<CK_OBJECT_HANDLE> found;
  for (const auto& object : find_objects(session, cka_id)) {
    if (object.object_class != CKO_PUBLIC_KEY) continue;
    if (found)
      throw Error(Error::Kind::kObject, "the token has several public keys under one CKA_ID");
    found = object.handle;
  }
  if (!found) throw Error(Error::Kind::kObject, "the token has no public key under this CKA_ID");
  return spki_of(session, *found);
}

}  // namespace keyagent::pkcs11
