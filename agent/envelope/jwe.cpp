// SPDX-License-Identifier: Apache-2.0
// Sealing and opening of JWE compact (RFC 7516 §5).

#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/jose.h"
#include "agent/envelope/public_key.h"
#include "agent/envelope/secrets.h"

namespace keyagent::envelope {

namespace {

using Json = nlohmann::json;

OaepHash oaep_hash(EnvelopeAlgorithm algorithm) {
  return algorithm == EnvelopeAlgorithm::kRsaOaep ? OaepHash::kSha1 : OaepHash::kSha256;
}

// "keyagent" is not listed in "crit", because earlier versions do not know it and must still open
// the envelope. The caller that requests a credential refuses an envelope that is bound to another
// one, or unbound.
Json start_header(const PublicKeyInfo& key, ContentEncryption enc,
                  const std::optional<Binding>& binding) {
  Json header{
      {"alg", keyagent::name_of(key.envelope)}, {"enc", name_of(enc)}, {"kid", key.kid.text()}};
  if (binding) {
    header["keyagent"] = {{"instance", binding->instance},
                          {"credential", binding->credential},
                          {"version", binding->version},
                          {"agent", binding->agent}};
  }
  return header;
}

void check_plaintext(const SecretBytes& plaintext) {
  if (plaintext.size() > kMaxPlaintext) {
    throw Error(Code::kUsage, "an envelope carries at most 128 KiB; seal a key for more");
  }
}

Bytes finish(const Json& header, const SecretBytes& cek, ByteView encrypted_key,
             const SecretBytes& plaintext) {
  std::string token = to_base64url(as_bytes(header.dump()));
  const Sealed sealed = gcm_seal(cek, as_bytes(token), plaintext);
  token += '.' + to_base64url(encrypted_key);
  token += '.' + to_base64url(sealed.iv);
  token += '.' + to_base64url(sealed.ciphertext);
  token += '.' + to_base64url(sealed.tag);
  return Bytes(token.begin(), token.end());
}

Json ephemeral_jwk(KeyAlgorithm curve, ByteView point) {
  const std::size_t field = ec_field_size(curve);
  return Json{{"kty", "EC"},
              {"crv", curve == KeyAlgorithm::kEcP256 ? "P-256" : "P-384"},
              {"x", to_base64url(point.subspan(1, field))},
              {"y", to_base64url(point.subspan(1 + field))}};
}

Bytes seal_by_agreement(const PublicKeyInfo& key, ContentEncryption enc, Json header,
                        const SecretBytes& plaintext) {
  const EphemeralAgreement ephemeral = agree_ephemeral(key.spki);
  header["epk"] = ephemeral_jwk(key.algorithm, ephemeral.point);
  const std::size_t size = agreed_size(key.envelope, enc);
  const Bytes info = concat_info(agreed_name(key.envelope, enc), {}, {}, size);
  const SecretBytes agreed = concat_kdf(ephemeral.z, info, size);
  if (key.envelope == EnvelopeAlgorithm::kEcdhEs) return finish(header, agreed, {}, plaintext);
  const SecretBytes cek = random_secret(cek_size(enc));
  return finish(header, cek, aes_kw_wrap(agreed, cek), plaintext);
}

// The content encryption key: the true one, or a random one. One token operation, whatever the
// bytes hold.
SecretBytes recover_cek(KeyOps& ops, const PublicKeyInfo& key, const Jwe& jwe) {
  const std::size_t size = cek_size(jwe.enc);
  switch (jwe.algorithm) {
    case EnvelopeAlgorithm::kRsaOaep:
    case EnvelopeAlgorithm::kRsaOaep256:
      return ops.decrypt_cek(key.kid, oaep_hash(jwe.algorithm), jwe.encrypted_key, size);
    case EnvelopeAlgorithm::kA256GcmKw:
      return ops.unwrap_cek(key.kid, {jwe.key_iv, jwe.encrypted_key, jwe.key_tag}, size);
    default:
      break;
  }
  const SecretBytes z = ops.agree(key.kid, jwe.ephemeral_point);
  const std::size_t agreed = agreed_size(jwe.algorithm, jwe.enc);
  const Bytes info = concat_info(agreed_name(jwe.algorithm, jwe.enc), jwe.apu, jwe.apv, agreed);
  SecretBytes secret = concat_kdf(z, info, agreed);
  if (jwe.algorithm == EnvelopeAlgorithm::kEcdhEs) return secret;
  return aes_kw_unwrap(secret, jwe.encrypted_key);
}

// Everything that the bytes alone decide, before the token is asked.
void check_fits(const PublicKeyInfo& key, const Jwe& jwe) {
  require_content(key, true);
  if (jwe.algorithm != key.envelope) {
    throw Error(Code::kUnsupported,
                "the envelope is sealed with " + std::string(keyagent::name_of(jwe.algorithm)) +
                    ", this key opens " +
                    (key.envelope == EnvelopeAlgorithm::kNone
                         ? std::string("none")
                         : std::string(keyagent::name_of(key.envelope))) +
                    " only",
                key.kid.text());
  }
  // A kid of our form names one key for certain; other names are the sealer's own and bind nothing.
  const auto named = Kid::parse(jwe.kid);
  if (named && *named != key.kid) {
    throw Error(Code::kInput, "the envelope is sealed to another key, kid " + named->text(),
                key.kid.text());
  }
  const std::size_t modulus = rsa_modulus_size(key.algorithm);
  if (modulus != 0 && jwe.encrypted_key.size() != modulus) {
    throw Error(Code::kInput, "malformed JWE: the encrypted key is not as long as the modulus");
  }
  if (jwe.ephemeral_point.empty()) return;
  if (jwe.curve != key.algorithm) {
    throw Error(Code::kUnsupported,
                "the envelope's ephemeral key is on another curve than this key", key.kid.text());
  }
  // An invalid-curve attack dies here; that the point is not on the curve is plain to everyone.
  if (!on_curve(jwe.curve, jwe.ephemeral_point)) throw_input_error();
}

}  // namespace

Bytes seal_jwe(const PublicKeyInfo& key, ContentEncryption enc, const SecretBytes& plaintext,
               const std::optional<Binding>& binding) {
  check_plaintext(plaintext);
  require_authenticated(key);
  if (key.spki.empty() || !can_seal(key.algorithm, key.envelope) ||
      key.envelope == EnvelopeAlgorithm::kNone) {
    throw Error(Code::kUnsupported, "cannot seal to this key: it does not open envelopes",
                key.kid.text());
  }
  Json header = start_header(key, enc, binding);
  if (!is_rsa(key.algorithm)) return seal_by_agreement(key, enc, std::move(header), plaintext);
  const SecretBytes cek = random_secret(cek_size(enc));
  const Bytes encrypted = oaep_encrypt(key.spki, oaep_hash(key.envelope), cek);
  return finish(header, cek, encrypted, plaintext);
}

Bytes seal_jwe(KeyOps& ops, const PublicKeyInfo& key, ContentEncryption enc,
               const SecretBytes& plaintext, const std::optional<Binding>& binding) {
  if (key.envelope != EnvelopeAlgorithm::kA256GcmKw) return seal_jwe(key, enc, plaintext, binding);
  check_plaintext(plaintext);
  const SecretBytes cek = random_secret(cek_size(enc));
  const WrappedCek wrapped = ops.wrap_cek(key.kid, cek);
  Json header = start_header(key, enc, binding);
  header["iv"] = to_base64url(wrapped.iv);
  header["tag"] = to_base64url(wrapped.tag);
  return finish(header, cek, wrapped.ciphertext, plaintext);
}

SecretBytes open_jwe(KeyOps& ops, const PublicKeyInfo& key, std::string_view token) {
  const Jwe jwe = parse_jwe(token);
  check_fits(key, jwe);
  const SecretBytes cek = recover_cek(ops, key, jwe);
  return gcm_open(cek, jwe.iv, as_bytes(jwe.header_text), jwe.ciphertext, jwe.tag);
}

}  // namespace keyagent::envelope
