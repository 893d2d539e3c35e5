// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/public_key.h"

#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <string>
#include <string_view>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"

namespace keyagent::envelope {

namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kUsage,
              "not a public key that keyagent uses: " + why +
                  "; supported are RSA of 2048, 3072 or 4096 bits, P-256, P-384 and Ed25519");
}

void must(bool ok, const char* what) {
  if (!ok) throw Error(Code::kInternal, std::string("OpenSSL: ") + what);
}

const char* group_name(KeyAlgorithm curve) {
  return curve == KeyAlgorithm::kEcP256 ? "P-256" : "P-384";
}

Bytes spki_of(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  must(size > 0, "a public key has no encoding");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

Owned<EVP_PKEY> from_params(const char* type, OSSL_PARAM_BLD* build) {
  Owned<OSSL_PARAM> params(OSSL_PARAM_BLD_to_param(build));
  Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !ctx || EVP_PKEY_fromdata_init(ctx.get()) <= 0 ||
      EVP_PKEY_fromdata(ctx.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) <= 0) {
    return nullptr;
  }
  return Owned<EVP_PKEY>(key);
}

// Null when the point is not on the curve: OpenSSL checks the equation when it decodes it.
Owned<EVP_PKEY> ec_key(KeyAlgorithm curve, ByteView point) {
  Owned<OSSL_PARAM_BLD> build(OSSL_PARAM_BLD_new());
  must(build &&
           OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME,
                                           group_name(curve), 0) &&
           OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                            point.size()),
       "out of memory");
  return from_params("EC", build.get());
}

Bytes number(EVP_PKEY* key, const char* name) {
  BIGNUM* raw = nullptr;
  must(EVP_PKEY_get_bn_param(key, name, &raw) == 1, "a public key lacks a parameter");
  const Owned<BIGNUM> owned(raw);
  Bytes out(static_cast<std::size_t>(BN_num_bytes(raw)));
  BN_bn2bin(raw, out.data());
  return out;
}

}  // namespace

Owned<EVP_PKEY> load_spki(ByteView spki) {
  const CleanErrorQueue clean;
  const unsigned char* at = spki.data();
  Owned<EVP_PKEY> key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (!key || at != spki.data() + spki.size()) refuse("not a DER SubjectPublicKeyInfo");
  return key;
}

KeyAlgorithm algorithm_of_spki(ByteView spki) {
  const auto key = load_spki(spki);
  const CleanErrorQueue clean;
  switch (EVP_PKEY_get_base_id(key.get())) {
    case EVP_PKEY_RSA:
      switch (EVP_PKEY_get_bits(key.get())) {
        case 2048:
          return KeyAlgorithm::kRsa2048;
        case 3072:
          return KeyAlgorithm::kRsa3072;
        case 4096:
          return KeyAlgorithm::kRsa4096;
        default:
          refuse("RSA of " + std::to_string(EVP_PKEY_get_bits(key.get())) + " bits");
      }
    case EVP_PKEY_ED25519:
      return KeyAlgorithm::kEd25519;
    case EVP_PKEY_EC: {
      char group[32] = {};
      EVP_PKEY_get_group_name(key.get(), group, sizeof group, nullptr);
      if (std::string_view(group) == "prime256v1") return KeyAlgorithm::kEcP256;
      if (std::string_view(group) == "secp384r1") return KeyAlgorithm::kEcP384;
      refuse("another curve");
    }
    default:
      refuse("another type");
  }
}

Bytes spki_of_rsa(ByteView modulus, ByteView exponent) {
  const CleanErrorQueue clean;
  Owned<BIGNUM> n(BN_bin2bn(modulus.data(), static_cast<int>(modulus.size()), nullptr));
  Owned<BIGNUM> e(BN_bin2bn(exponent.data(), static_cast<int>(exponent.size()), nullptr));
  // FIPS 186-4 §B.3.1: odd, and 1 would make encryption the identity.
  if (!n || !e || !BN_is_odd(n.get()) || !BN_is_odd(e.get()) || BN_is_one(e.get())) {
    refuse("RSA with an impossible modulus or exponent");
  }
  Owned<OSSL_PARAM_BLD> build(OSSL_PARAM_BLD_new());
  must(build && OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) &&
           OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_E, e.get()),
       "out of memory");
  const auto key = from_params("RSA", build.get());
  if (!key) refuse("malformed RSA");
  return spki_of(key.get());
}

Bytes spki_of_ec(KeyAlgorithm curve, ByteView point) {
  const CleanErrorQueue clean;
  const auto key = ec_key(curve, point);
  if (!key) refuse("a point that is not on the curve");
  return spki_of(key.get());
}

Bytes spki_of_ed25519(ByteView raw) {
  const CleanErrorQueue clean;
  Owned<EVP_PKEY> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw.data(), raw.size()));
  if (!key) refuse("malformed Ed25519");
  return spki_of(key.get());
}

bool on_curve(KeyAlgorithm curve, ByteView point) {
  const CleanErrorQueue clean;
  const std::size_t field = ec_field_size(curve);
  if (field == 0 || point.size() != 2 * field + 1 || point[0] != 4) return false;
  return ec_key(curve, point) != nullptr;
}

RsaNumbers rsa_numbers(EVP_PKEY* key) {
  return {number(key, OSSL_PKEY_PARAM_RSA_N), number(key, OSSL_PKEY_PARAM_RSA_E)};
}

Bytes public_point(EVP_PKEY* key) {
  if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) {
    Bytes out(32);
    std::size_t size = out.size();
    must(EVP_PKEY_get_raw_public_key(key, out.data(), &size) == 1, "a public key has no point");
    return out;
  }
  unsigned char* raw = nullptr;
  const std::size_t size = EVP_PKEY_get1_encoded_public_key(key, &raw);
  must(size > 0, "a public key has no point");
  Bytes out(raw, raw + size);
  OPENSSL_free(raw);
  return out;
}

Bytes oaep_encrypt(ByteView spki, OaepHash hash, const SecretBytes& secret) {
  const auto key = load_spki(spki);
  const CleanErrorQueue clean;
  const EVP_MD* md = hash == OaepHash::kSha1 ? EVP_sha1() : EVP_sha256();
  Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new(key.get(), nullptr));
  must(ctx && EVP_PKEY_encrypt_init(ctx.get()) > 0 &&
           EVP_PKEY_CTX_set_rsa_padding(ctx.get(), RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md(ctx.get(), md) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx.get(), md) > 0,
       "cannot set up RSA-OAEP");
  Bytes out(static_cast<std::size_t>(EVP_PKEY_get_size(key.get())));
  std::size_t size = out.size();
  must(EVP_PKEY_encrypt(ctx.get(), out.data(), &size, secret.data(), secret.size()) > 0,
       "cannot encrypt with RSA-OAEP");
  out.resize(size);
  return out;
}

EphemeralAgreement agree_ephemeral(ByteView spki) {
  const KeyAlgorithm curve = algorithm_of_spki(spki);
  const auto peer = load_spki(spki);
  const CleanErrorQueue clean;
  Owned<EVP_PKEY> own(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", group_name(curve)));
  must(own != nullptr, "cannot generate an ephemeral key");
  Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new(own.get(), nullptr));
  EphemeralAgreement out{public_point(own.get()), SecretBytes(ec_field_size(curve))};
  std::size_t size = out.z.size();
  must(ctx && EVP_PKEY_derive_init(ctx.get()) > 0 &&
           EVP_PKEY_derive_set_peer(ctx.get(), peer.get()) > 0 &&
           EVP_PKEY_derive(ctx.get(), out.z.data(), &size) > 0 && size == out.z.size(),
       "cannot agree on a key");
  return out;
}

namespace {

// The value of the BIT STRING subjectPublicKey.
Bytes key_bits(ByteView spki) {
  const CleanErrorQueue clean;
  const unsigned char* at = spki.data();
  X509_PUBKEY* pub = d2i_X509_PUBKEY(nullptr, &at, static_cast<long>(spki.size()));
  const unsigned char* bits = nullptr;
  int size = 0;
  if (pub == nullptr || X509_PUBKEY_get0_param(nullptr, &bits, &size, nullptr, pub) != 1) {
    X509_PUBKEY_free(pub);
    refuse("not a DER SubjectPublicKeyInfo");
  }
  Bytes out(bits, bits + size);
  X509_PUBKEY_free(pub);
  return out;
}

// The leftmost `size` bytes of the digest.
Bytes leftmost(const EVP_MD* md, ByteView bytes, std::size_t size) {
  Bytes out(EVP_MAX_MD_SIZE);
  must(EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, md, nullptr) == 1,
       "cannot digest");
  out.resize(size);
  return out;
}

}  // namespace

Bytes subject_key_identifier(ByteView spki) {
  return leftmost(EVP_sha1(), key_bits(spki), SHA_DIGEST_LENGTH);
}

std::vector<Bytes> key_identifiers(ByteView spki) {
  const Bytes bits = key_bits(spki);
  return {leftmost(EVP_sha1(), bits, SHA_DIGEST_LENGTH),
          leftmost(EVP_sha256(), bits, SHA_DIGEST_LENGTH),
          leftmost(EVP_sha384(), bits, SHA_DIGEST_LENGTH),
          leftmost(EVP_sha512(), bits, SHA_DIGEST_LENGTH),
          leftmost(EVP_sha256(), spki, SHA256_DIGEST_LENGTH)};
}

}  // namespace keyagent::envelope
