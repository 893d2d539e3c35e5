// SPDX-License-Identifier: Apache-2.0
// One real operation with a key, against an independent implementation of its other half (OpenSSL).

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

#include "agent/base/encoding.h"
#include "agent/vault/mechanisms.h"
#include "agent/vault/token_vault.h"
#include "pkcs11/error.h"

namespace keyagent::vault {
namespace {

using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;

void require(bool done, const VaultKey& key, const char* what) {
  if (done) return;
  throw Error(Code::kIntegrity,
              std::string("self-test of key ") + key.info.name + " failed: " + what +
                  "; the token's private key does not match the public key",
              key.info.kid.text());
}

Pkey parse_spki(const VaultKey& key) {
  const unsigned char* der = key.info.spki.data();
  Pkey parsed(d2i_PUBKEY(nullptr, &der, static_cast<long>(key.info.spki.size())), EVP_PKEY_free);
  require(parsed != nullptr, key, "its public key does not parse");
  return parsed;
}

Bytes oaep_encrypt(const VaultKey& key, OaepHash hash, ByteView plaintext) {
  const Pkey pkey = parse_spki(key);
  const PkeyContext context(EVP_PKEY_CTX_new(pkey.get(), nullptr), EVP_PKEY_CTX_free);
  const EVP_MD* md = hash == OaepHash::kSha1 ? EVP_sha1() : EVP_sha256();
  Bytes out(static_cast<std::size_t>(EVP_PKEY_get_size(pkey.get())));
  std::size_t size = out.size();
  const bool done =
      EVP_PKEY_encrypt_init(context.get()) == 1 &&
      EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1 &&
      EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), md) == 1 &&
      EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), md) == 1 &&
      EVP_PKEY_encrypt(context.get(), out.data(), &size, plaintext.data(), plaintext.size()) == 1;
  require(done, key, "OpenSSL cannot encrypt to it");
  return out;
}

struct Agreement {
  Bytes point;         // the other side's public point
  SecretBytes secret;  // what both sides must get
};

Agreement agree_in_software(const VaultKey& key) {
  const Pkey peer = parse_spki(key);
  const char* curve = key.info.algorithm == KeyAlgorithm::kEcP256 ? "P-256" : "P-384";
  const Pkey ephemeral(EVP_EC_gen(curve), EVP_PKEY_free);
  const PkeyContext context(EVP_PKEY_CTX_new(ephemeral.get(), nullptr), EVP_PKEY_CTX_free);
  Agreement agreement;
  std::size_t size = ec_field_size(key.info.algorithm);
  agreement.secret.resize(size);
  bool done = EVP_PKEY_derive_init(context.get()) == 1 &&
              EVP_PKEY_derive_set_peer(context.get(), peer.get()) == 1 &&
              EVP_PKEY_derive(context.get(), agreement.secret.data(), &size) == 1;
  agreement.point.resize(2 * ec_field_size(key.info.algorithm) + 1);
  std::size_t point_size = 0;
  done = done && EVP_PKEY_get_octet_string_param(
                     ephemeral.get(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, agreement.point.data(),
                     agreement.point.size(), &point_size) == 1;
  require(done && point_size == agreement.point.size(), key, "OpenSSL cannot agree with it");
  return agreement;
}

}  // namespace

void TokenVault::self_test(const VaultKey& key) {
  const auto fresh = random_secret(32);
  switch (key.info.purpose) {
    case Purpose::kAuth:
    case Purpose::kSign:
    case Purpose::kAudit:
    case Purpose::kIdentity:
    case Purpose::kCa:
    case Purpose::kConfirm: {
      const auto algorithm = *default_signature(key.info.algorithm);
      const auto digest =
          random_bytes(std::max<std::size_t>(digest_size(digest_of(algorithm)), 32));
      const Bytes signature = sign_with(key, algorithm, digest);
      require(pkcs11::verify_signature(key.info.spki, scheme_of(algorithm), hash_of(algorithm),
                                       digest, signature),
              key, "its signature does not verify");
      return;
    }
    case Purpose::kTransport:
      if (is_rsa(key.info.algorithm)) {
        const auto hash =
            key.info.envelope == EnvelopeAlgorithm::kRsaOaep ? OaepHash::kSha1 : OaepHash::kSha256;
        const Bytes sealed = oaep_encrypt(key, hash, fresh);
        require(equal_secret(decrypt_with(key, hash, sealed, fresh.size()), fresh), key,
                "data encrypted to it does not decrypt");
      } else {
        const auto agreement = agree_in_software(key);
        require(equal_secret(agree_with(key, agreement.point), agreement.secret), key,
                "the two sides of ECDH differ");
      }
      return;
    case Purpose::kStorage:
      require(equal_secret(unwrap_with(key, wrap_with(key, fresh), fresh.size()), fresh), key,
              "a key it wrapped does not unwrap");
      return;
    case Purpose::kExchange:
      test_unwrap(key);
      return;
  }
}

// An exchange key may only unwrap into the token: an AES key goes in and is destroyed again.
void TokenVault::test_unwrap(const VaultKey& key) {
  if (!is_rsa(key.info.algorithm)) return;  // its derivation needs an unwrapping key of a peer
  pkcs11::KeySpec spec;
  spec.kind = pkcs11::KeyKind::kAes256;
  spec.usage = pkcs11::Usage::kEncrypt;
  const CkaId id = CkaId::random();
  spec.cka_id.assign(id.bytes.begin(), id.bytes.end());
  spec.label = "keyagent-self-test";
  const Bytes wrapped = oaep_encrypt(key, OaepHash::kSha1, random_secret(32));
  const pkcs11::KeyId unwrapping{{key.cka_id.bytes.begin(), key.cka_id.bytes.end()},
                                 CKO_PRIVATE_KEY};
  try {
    token_->run(
        [&](pkcs11::Session& session) {
          pkcs11::unwrap(session, unwrapping, pkcs11::WrapScheme::kRsaOaepSha1, wrapped, spec);
        },
        true);
  } catch (const std::exception& error) {
    throw translate(error, key.info.kid.text());
  }
  destroy(id);
}

}  // namespace keyagent::vault
