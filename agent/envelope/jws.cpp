// SPDX-License-Identifier: Apache-2.0
// JSON Web Signatures in compact serialization (RFC 7515 §5), and verification of raw signatures.

#include <openssl/rsa.h>

#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/jose_json.h"
#include "agent/envelope/public_key.h"

namespace keyagent::envelope {

namespace {

using Json = nlohmann::json;

const EVP_MD* evp_digest(DigestAlgorithm digest) {
  switch (digest) {
    case DigestAlgorithm::kSha256:
      return EVP_sha256();
    case DigestAlgorithm::kSha384:
      return EVP_sha384();
    case DigestAlgorithm::kSha512:
      return EVP_sha512();
    case DigestAlgorithm::kNone:
      break;
  }
  return nullptr;
}

// What KeyOps::sign and verify_signature take: the digest, or the message itself for EdDSA.
Bytes signing_input(SignatureAlgorithm algorithm, std::string_view text) {
  const EVP_MD* md = evp_digest(digest_of(algorithm));
  if (md == nullptr) return Bytes(text.begin(), text.end());
  Bytes out(static_cast<std::size_t>(EVP_MD_get_size(md)));
  if (EVP_Digest(text.data(), text.size(), out.data(), nullptr, md, nullptr) != 1) {
    throw Error(Code::kInternal, "OpenSSL: cannot digest");
  }
  return out;
}

bool is_pss(SignatureAlgorithm a) {
  return a == SignatureAlgorithm::kPs256 || a == SignatureAlgorithm::kPs384 ||
         a == SignatureAlgorithm::kPs512;
}

bool verify_eddsa(EVP_PKEY* key, ByteView message, ByteView signature) {
  Owned<EVP_MD_CTX> ctx(EVP_MD_CTX_new());
  return ctx && EVP_DigestVerifyInit(ctx.get(), nullptr, nullptr, nullptr, key) == 1 &&
         EVP_DigestVerify(ctx.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

bool verify_digest(EVP_PKEY* key, SignatureAlgorithm algorithm, bool rsa, ByteView digest,
                   ByteView signature) {
  Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new(key, nullptr));
  if (!ctx || EVP_PKEY_verify_init(ctx.get()) <= 0) return false;
  if (rsa && EVP_PKEY_CTX_set_rsa_padding(
                 ctx.get(), is_pss(algorithm) ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) <= 0) {
    return false;
  }
  if (EVP_PKEY_CTX_set_signature_md(ctx.get(), evp_digest(digest_of(algorithm))) <= 0) return false;
  // RFC 7518 §3.5: the salt is as long as the digest, no other length is taken.
  if (is_pss(algorithm) &&
      EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx.get(), RSA_PSS_SALTLEN_DIGEST) <= 0) {
    return false;
  }
  return EVP_PKEY_verify(ctx.get(), signature.data(), signature.size(), digest.data(),
                         digest.size()) == 1;
}

[[noreturn]] void refuse(const PublicKeyInfo& key, const std::string& why) {
  throw Error(Code::kIntegrity, "the signature is invalid: " + why, key.kid.text());
}

SignatureAlgorithm read_header(const PublicKeyInfo& key, std::string_view text,
                               std::string_view type) {
  const auto bytes = from_base64url(text);
  const auto header = bytes ? parse_strict_object(as_text(*bytes), kJoseJson) : std::nullopt;
  if (!header) refuse(key, "malformed JWS header");
  if (header->contains("crit")) refuse(key, "the header names extensions (\"crit\")");
  const auto alg = text_member(*header, "alg");
  const auto algorithm = alg ? signature_algorithm_of(*alg) : std::nullopt;
  if (!algorithm || !can_sign(key.algorithm, *algorithm)) {
    refuse(key, "the header's \"alg\" is not one that this key signs with");
  }
  const auto named = Kid::parse(text_member(*header, "kid").value_or(""));
  if (named && *named != key.kid) refuse(key, "the header names another key");
  if (!type.empty() && text_member(*header, "typ") != type)
    refuse(key, "its type is not " + std::string(type));
  return *algorithm;
}

}  // namespace

bool verify_signature(ByteView spki, SignatureAlgorithm algorithm, ByteView input,
                      ByteView signature) {
  const KeyAlgorithm kind = algorithm_of_spki(spki);
  const auto key = load_spki(spki);
  const CleanErrorQueue clean;
  if (!can_sign(kind, algorithm)) return false;
  if (algorithm == SignatureAlgorithm::kEdDsa) return verify_eddsa(key.get(), input, signature);
  if (input.size() != digest_size(digest_of(algorithm))) return false;
  if (is_rsa(kind)) {
    return signature.size() == rsa_modulus_size(kind) &&
           verify_digest(key.get(), algorithm, true, input, signature);
  }
  if (signature.size() != 2 * ec_field_size(kind)) return false;
  return verify_digest(key.get(), algorithm, false, input, ecdsa_to_der(signature));
}

std::string sign_jws(KeyOps& ops, const PublicKeyInfo& key, SignatureAlgorithm algorithm,
                     ByteView payload, std::string_view type) {
  if (!can_sign(key.algorithm, algorithm)) {
    throw Error(Code::kUnsupported,
                "a key of type " + std::string(keyagent::name_of(key.algorithm)) +
                    " does not sign with " + std::string(keyagent::name_of(algorithm)),
                key.kid.text());
  }
  Json header{{"alg", keyagent::name_of(algorithm)}, {"kid", key.kid.text()}};
  if (!type.empty()) header["typ"] = type;
  std::string jws = to_base64url(as_bytes(header.dump())) + '.' + to_base64url(payload);
  const Bytes signature = ops.sign(key.kid, algorithm, signing_input(algorithm, jws));
  return jws + '.' + to_base64url(signature);
}

Bytes verify_jws(const PublicKeyInfo& key, std::string_view jws, std::string_view type) {
  if (!signs(key.purpose)) refuse(key, "this key does not sign");
  const std::size_t first = jws.find('.');
  const std::size_t last = jws.rfind('.');
  if (first == std::string_view::npos || first == last || jws.find('.', first + 1) != last) {
    refuse(key, "a JWS has three parts separated by dots");
  }
  const SignatureAlgorithm algorithm = read_header(key, jws.substr(0, first), type);
  auto payload = from_base64url(jws.substr(first + 1, last - first - 1));
  const auto signature = from_base64url(jws.substr(last + 1));
  if (!payload || !signature) refuse(key, "not base64url without padding");
  const Bytes input = signing_input(algorithm, jws.substr(0, last));
  if (!verify_signature(key.spki, algorithm, input, *signature)) {
    refuse(key, "it was not made by this key for this content");
  }
  return std::move(*payload);
}

}  // namespace keyagent::envelope
