// SPDX-License-Identifier: Apache-2.0
// JSON Web Keys of public keys (RFC 7517, RFC 7518 §6, RFC 8037 §2).

#include <array>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/jose_json.h"
#include "agent/envelope/public_key.h"

namespace keyagent::envelope {

namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kUsage, "not a usable public JWK: " + why);
}

Bytes bytes_member(const Json& jwk, const char* name) {
  const auto text = text_member(jwk, name);
  const auto bytes = text ? from_base64url(*text) : std::nullopt;
  if (!bytes || bytes->empty()) refuse(std::string("\"") + name + "\" is not base64url");
  return *bytes;
}

// RFC 7518 §6.3.1.1: no more bytes than the number needs.
Bytes number_member(const Json& jwk, const char* name) {
  Bytes bytes = bytes_member(jwk, name);
  if (bytes.front() == 0) refuse(std::string("\"") + name + "\" has a leading zero");
  return bytes;
}

Bytes ec_spki(const Json& jwk) {
  const auto crv = text_member(jwk, "crv");
  if (crv != "P-256" && crv != "P-384") refuse("EC keys must be on P-256 or P-384");
  const KeyAlgorithm curve = crv == "P-256" ? KeyAlgorithm::kEcP256 : KeyAlgorithm::kEcP384;
  const Bytes x = bytes_member(jwk, "x");
  const Bytes y = bytes_member(jwk, "y");
  if (x.size() != ec_field_size(curve) || y.size() != ec_field_size(curve)) {
    refuse("a coordinate is not as wide as the curve's field");
  }
  Bytes point{4};
  point.insert(point.end(), x.begin(), x.end());
  point.insert(point.end(), y.begin(), y.end());
  return spki_of_ec(curve, point);
}

Bytes okp_spki(const Json& jwk) {
  if (text_member(jwk, "crv") != "Ed25519") refuse("OKP keys must be on Ed25519");
  const Bytes x = bytes_member(jwk, "x");
  if (x.size() != 32) refuse("\"x\" of Ed25519 has 32 bytes");
  return spki_of_ed25519(x);
}

Bytes spki_of_jwk(const Json& jwk) {
  const auto kty = text_member(jwk, "kty");
  if (kty == "RSA") return spki_of_rsa(number_member(jwk, "n"), number_member(jwk, "e"));
  if (kty == "EC") return ec_spki(jwk);
  if (kty == "OKP") return okp_spki(jwk);
  refuse("\"kty\" must be RSA, EC or OKP");
}

// RFC 7517 §4.2, §4.3: whether the JWK declares itself for encryption. Both members must agree.
std::optional<bool> says_encryption(const Json& jwk) {
  std::optional<bool> says;
  if (jwk.contains("use")) {
    const auto use = text_member(jwk, "use");
    if (use != "enc" && use != "sig") refuse("\"use\" must be enc or sig");
    says = use == "enc";
  }
  const auto ops = jwk.find("key_ops");
  if (ops == jwk.end()) return says;
  if (!ops->is_array()) refuse("\"key_ops\" is not a list");
  for (const Json& op : *ops) {
    const bool signature = op == "sign" || op == "verify";
    if (says && *says == signature) refuse("\"use\" and \"key_ops\" contradict each other");
    says = !signature;
  }
  return says;
}

void read_use(const Json& jwk, PublicKeyInfo& key) {
  const std::optional<bool> encryption = says_encryption(jwk);
  const auto alg = text_member(jwk, "alg");
  if (jwk.contains("alg") && !alg) refuse("\"alg\" is not text");
  const auto envelope = alg ? envelope_algorithm_of(*alg) : std::nullopt;
  const auto signature = alg ? signature_algorithm_of(*alg) : std::nullopt;
  if (envelope && *envelope != EnvelopeAlgorithm::kNone) {
    if (!can_seal(key.algorithm, *envelope)) refuse("\"alg\" does not fit the key's type");
    key.envelope = *envelope;
  } else if (signature) {
    if (!can_sign(key.algorithm, *signature)) refuse("\"alg\" does not fit the key's type");
  } else if (alg) {
    refuse("\"alg\" is not an algorithm of keyagent");
  }
  const bool seals = key.envelope != EnvelopeAlgorithm::kNone;
  if (encryption && alg && *encryption != seals)
    refuse("\"use\" and \"alg\" contradict each other");
  key.purpose = seals || encryption.value_or(false) ? Purpose::kTransport : Purpose::kSign;
  if (key.purpose == Purpose::kTransport && !seals) {
    key.envelope = default_envelope(key.purpose, key.algorithm);
  }
}

// A JWK without a declared use is accepted for the caller's purpose.
void require_purpose(const Json& jwk, Purpose purpose, PublicKeyInfo& key) {
  if (key.purpose == purpose) return;
  if (jwk.contains("alg") || says_encryption(jwk))
    refuse("its purpose is " +
           std::string(key.purpose == Purpose::kSign ? "signatures" : "encryption"));
  if (!allowed(purpose, key.algorithm))
    refuse("a key of its type cannot be used for " + std::string(keyagent::name_of(purpose)));
  key.purpose = purpose;
  key.envelope = default_envelope(purpose, key.algorithm);
}

// Names that only a private or secret key has (RFC 7518 §6.2.2, §6.3.2, §6.4).
constexpr std::array<const char*, 8> kPrivateNames{"d", "p", "q", "dp", "dq", "qi", "oth", "k"};

}  // namespace

std::string to_jwk(const PublicKeyInfo& key) {
  if (key.spki.empty()) {
    throw Error(Code::kUsage, "a storage key is secret: it has no public JWK", key.kid.text());
  }
  if (key.accepts_cbc) {
    throw Error(Code::kUsage,
                "a key that accepts AES-CBC content opens no JWE and has no JWK; use its PEM or a "
                "certificate",
                key.kid.text());
  }
  const auto pkey = load_spki(key.spki);
  Json jwk{{"kid", key.kid.text()}};
  if (is_rsa(key.algorithm)) {
    const RsaNumbers numbers = rsa_numbers(pkey.get());
    jwk["kty"] = "RSA";
    jwk["n"] = to_base64url(numbers.modulus);
    jwk["e"] = to_base64url(numbers.exponent);
  } else if (key.algorithm == KeyAlgorithm::kEd25519) {
    jwk["kty"] = "OKP";
    jwk["crv"] = "Ed25519";
    jwk["x"] = to_base64url(public_point(pkey.get()));
  } else {
    const Bytes point = public_point(pkey.get());
    const std::size_t field = ec_field_size(key.algorithm);
    jwk["kty"] = "EC";
    jwk["crv"] = key.algorithm == KeyAlgorithm::kEcP256 ? "P-256" : "P-384";
    jwk["x"] = to_base64url(ByteView(point).subspan(1, field));
    jwk["y"] = to_base64url(ByteView(point).subspan(1 + field));
  }
  if (key.envelope != EnvelopeAlgorithm::kNone) {
    jwk["use"] = "enc";
    jwk["alg"] = keyagent::name_of(key.envelope);
  } else if (signs(key.purpose)) {
    jwk["use"] = "sig";
    // An RSA key signs in several ways and "alg" would forbid all but one to the reader.
    if (!is_rsa(key.algorithm)) {
      jwk["alg"] = keyagent::name_of(default_signature(key.algorithm).value());
    }
  }
  return jwk.dump();
}

PublicKeyInfo from_jwk(std::string_view json, std::optional<Purpose> purpose) {
  const auto jwk = parse_strict_object(json, kJoseJson);
  if (!jwk) refuse("not a JSON object with unique names");
  if (jwk->contains("keys")) refuse("it is a JWK Set; give one of its keys");
  for (const char* name : kPrivateNames) {
    if (jwk->contains(name)) {
      refuse(std::string("it holds a private key (\"") + name + "\"); give the public part only");
    }
  }
  PublicKeyInfo key;
  key.spki = spki_of_jwk(*jwk);
  key.algorithm = algorithm_of_spki(key.spki);
  key.kid = Kid(jwk_thumbprint(key.spki));
  const auto named = Kid::parse(text_member(*jwk, "kid").value_or(""));
  if (named && *named != key.kid) refuse("\"kid\" is the thumbprint of another key");
  read_use(*jwk, key);
  if (purpose) require_purpose(*jwk, *purpose, key);
  return key;
}

PublicKeyInfo key_of_spki(ByteView spki, Purpose purpose) {
  PublicKeyInfo key;
  key.spki.assign(spki.begin(), spki.end());
  key.algorithm = algorithm_of_spki(spki);
  key.purpose = purpose;
  if (!allowed(purpose, key.algorithm))
    throw Error(Code::kUsage, "a key of type " + std::string(keyagent::name_of(key.algorithm)) +
                                  " is not for " + std::string(keyagent::name_of(purpose)));
  key.envelope = default_envelope(purpose, key.algorithm);
  key.kid = Kid(jwk_thumbprint(spki));
  return key;
}

}  // namespace keyagent::envelope
