// SPDX-License-Identifier: Apache-2.0
// Signatures: the mechanisms, the sizes that a token must keep to, and the check with the public
// key.

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <utility>

#include "agent/base/mutex.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/key_template.h"

namespace keyagent::pkcs11 {
namespace {

constexpr CK_MECHANISM_TYPE kEdDsa = 0x1057;  // CKM_EDDSA

// DigestInfo of RFC 8017 §9.2 note 1, up to the digest itself.
ByteView digest_info_prefix(Hash hash) {
  static constexpr std::uint8_t kSha1[] = {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e,
                                           0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14};
  static constexpr std::uint8_t kSha256[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                             0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                             0x01, 0x05, 0x00, 0x04, 0x20};
  static constexpr std::uint8_t kSha384[] = {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                             0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                             0x02, 0x05, 0x00, 0x04, 0x30};
  static constexpr std::uint8_t kSha512[] = {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                             0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                             0x03, 0x05, 0x00, 0x04, 0x40};
  switch (hash) {
    case Hash::kSha1:
      return kSha1;
    case Hash::kSha256:
      return kSha256;
    case Hash::kSha384:
      return kSha384;
    case Hash::kSha512:
      return kSha512;
    case Hash::kNone:
      break;
  }
  return {};
}

CK_ULONG hash_size(Hash hash) {
  switch (hash) {
    case Hash::kSha1:
      return 20;
    case Hash::kSha256:
      return 32;
    case Hash::kSha384:
      return 48;
    case Hash::kSha512:
      return 64;
    case Hash::kNone:
      break;
  }
  return 0;
}

CK_RSA_PKCS_PSS_PARAMS pss_parameters(Hash hash) {
  switch (hash) {
    case Hash::kSha384:
      return {CKM_SHA384, CKG_MGF1_SHA384, hash_size(hash)};
    case Hash::kSha512:
      return {CKM_SHA512, CKG_MGF1_SHA512, hash_size(hash)};
    default:
      return {CKM_SHA256, CKG_MGF1_SHA256, hash_size(hash)};
  }
}

std::size_t signature_size(KeyKind kind) {
  const auto bits = modulus_bits(kind);
  return bits != 0 ? bits / 8 : 2 * field_size(kind);
}

void require_fit(KeyKind kind, SignScheme scheme, Hash hash, ByteView input) {
  const bool rsa = modulus_bits(kind) != 0;
  const bool fits = scheme == SignScheme::kEdDsa ? kind == KeyKind::kEd25519
                    : scheme == SignScheme::kEcdsa
                        ? kind == KeyKind::kEcP256 || kind == KeyKind::kEcP384
                        : rsa;
  if (!fits)
    throw Error(Error::Kind::kUnsupported, "this scheme does not support this type of key");
  // SoftHSM would sign 64 bytes that are not a digest (RELIABILITY 65).
  if (scheme != SignScheme::kEdDsa && input.size() != hash_size(hash)) {
    throw Error(Error::Kind::kUnsupported, "the digest has " + std::to_string(input.size()) +
                                               " bytes, its hash has " +
                                               std::to_string(hash_size(hash)));
  }
}

Bytes call_sign(Session& session, const Bytes& cka_id, CK_MECHANISM& mechanism, ByteView data,
                std::size_t size) {
  const CK_OBJECT_HANDLE key = session.key({cka_id, CKO_PRIVATE_KEY});
  check(session.c().C_SignInit(session.handle(), &mechanism, key), "C_SignInit");
  Bytes signature(size);
  CK_ULONG written = size;
  check(session.c().C_Sign(session.handle(), const_cast<CK_BYTE*>(data.data()),
                           static_cast<CK_ULONG>(data.size()), signature.data(), &written),
        "C_Sign");
  if (written != size) {
    throw Error(Error::Kind::kOutput, "C_Sign: the token returned a signature of " +
                                          std::to_string(written) + " bytes, not " +
                                          std::to_string(size));
  }
  return signature;
}

using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using SharedPkey = std::shared_ptr<EVP_PKEY>;

// Parsing a SubjectPublicKeyInfo costs OpenSSL 3 more than the RSA verification itself, so the last
// few are kept.
SharedPkey parse_cached(ByteView spki) {
  struct Entry {
    Bytes spki;
    SharedPkey key;
  };
  static Mutex mutex;
  static std::array<Entry, 64> cache GUARDED_BY(mutex);
  static std::size_t next GUARDED_BY(mutex) = 0;
  {
    const MutexLock lock(mutex);
    for (const auto& entry : cache) {
      if (entry.key && std::equal(spki.begin(), spki.end(), entry.spki.begin(), entry.spki.end()))
        return entry.key;
    }
  }
  const unsigned char* der = spki.data();
  SharedPkey key(d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
  if (key) {
    const MutexLock lock(mutex);
    cache[next++ % cache.size()] = {Bytes(spki.begin(), spki.end()), key};
  }
  return key;
}

const EVP_MD* message_digest(Hash hash) {
  switch (hash) {
    case Hash::kSha1:
      return EVP_sha1();
    case Hash::kSha256:
      return EVP_sha256();
    case Hash::kSha384:
      return EVP_sha384();
    case Hash::kSha512:
      return EVP_sha512();
    case Hash::kNone:
      break;
  }
  return nullptr;
}

// r‖s as the DER that OpenSSL verifies.
Bytes der_of(ByteView rs) {
  const std::size_t half = rs.size() / 2;
  const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> parsed(ECDSA_SIG_new(),
                                                                     ECDSA_SIG_free);
  ECDSA_SIG_set0(parsed.get(), BN_bin2bn(rs.data(), static_cast<int>(half), nullptr),
                 BN_bin2bn(rs.data() + half, static_cast<int>(half), nullptr));
  Bytes der(static_cast<std::size_t>(i2d_ECDSA_SIG(parsed.get(), nullptr)));
  unsigned char* out = der.data();
  i2d_ECDSA_SIG(parsed.get(), &out);
  return der;
}

bool verify_message(EVP_PKEY* key, ByteView message, ByteView signature) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  return EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

}  // namespace

Bytes sign(Session& session, const Bytes& cka_id, KeyKind kind, SignScheme scheme, Hash hash,
           ByteView input) {
  require_fit(kind, scheme, hash, input);
  const std::size_t size = signature_size(kind);
  switch (scheme) {
    case SignScheme::kPkcs1: {
      const auto prefix = digest_info_prefix(hash);
      Bytes digest_info(prefix.begin(), prefix.end());
      digest_info.insert(digest_info.end(), input.begin(), input.end());
      CK_MECHANISM mechanism{CKM_RSA_PKCS, nullptr, 0};
      return call_sign(session, cka_id, mechanism, digest_info, size);
    }
    case SignScheme::kPss: {
      if (!session.profile().pss)
        throw Error(Error::Kind::kUnsupported, "this token has no CKM_RSA_PKCS_PSS");
      auto parameters = pss_parameters(hash);
      CK_MECHANISM mechanism{CKM_RSA_PKCS_PSS, &parameters, sizeof parameters};
      return call_sign(session, cka_id, mechanism, input, size);
    }
    case SignScheme::kEcdsa: {
      CK_MECHANISM mechanism{CKM_ECDSA, nullptr, 0};
      return call_sign(session, cka_id, mechanism, input, size);
    }
    case SignScheme::kEdDsa:
      break;
  }
  CK_MECHANISM mechanism{kEdDsa, nullptr, 0};
  return call_sign(session, cka_id, mechanism, input, size);
}

bool verify_signature(ByteView spki, SignScheme scheme, Hash hash, ByteView input,
                      ByteView signature) {
  const SharedPkey key = parse_cached(spki);
  if (!key) return false;
  if (scheme == SignScheme::kEdDsa) return verify_message(key.get(), input, signature);
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
      EVP_PKEY_CTX_new(key.get(), nullptr), EVP_PKEY_CTX_free);
  bool set = EVP_PKEY_verify_init(context.get()) == 1;
  if (scheme != SignScheme::kEcdsa) {
    const int padding = scheme == SignScheme::kPss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
    set = set && EVP_PKEY_CTX_set_rsa_padding(context.get(), padding) == 1;
  }
  set = set && EVP_PKEY_CTX_set_signature_md(context.get(), message_digest(hash)) == 1;
  if (scheme == SignScheme::kPss) {
    set = set && EVP_PKEY_CTX_set_rsa_pss_saltlen(context.get(), RSA_PSS_SALTLEN_DIGEST) == 1;
  }
  if (!set) return false;
  const Bytes encoded =
      scheme == SignScheme::kEcdsa ? der_of(signature) : Bytes(signature.begin(), signature.end());
  return EVP_PKEY_verify(context.get(), encoded.data(), encoded.size(), input.data(),
                         input.size()) == 1;
}

}  // namespace keyagent::pkcs11
