// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/jose.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/jose_json.h"
#include "agent/envelope/secrets.h"

namespace keyagent::envelope {

namespace {

using Json = nlohmann::json;

[[noreturn]] void malformed(const std::string& what) {
  throw Error(Code::kInput, "malformed JWE: " + what);
}

[[noreturn]] void unsupported(const std::string& what) {
  throw Error(Code::kUnsupported, "this JWE cannot be opened: " + what);
}

// For error texts: a name from the envelope, short and without control bytes.
std::string shown(std::string_view name) {
  std::string out = "\"";
  for (const char c : name.substr(0, 40)) out += (c > 0x20 && c < 0x7F && c != '"') ? c : '?';
  return out + "\"";
}

std::array<std::string_view, 5> split(std::string_view token) {
  std::array<std::string_view, 5> parts;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t dot = token.find('.');
    if (dot == std::string_view::npos) malformed("expected five parts separated by dots");
    parts[i] = token.substr(0, dot);
    token.remove_prefix(dot + 1);
  }
  if (token.find('.') != std::string_view::npos) {
    malformed("expected five parts separated by dots");
  }
  parts[4] = token;
  return parts;
}

Bytes decode(std::string_view text, const char* what) {
  auto bytes = from_base64url(text);
  if (!bytes) malformed(std::string(what) + " is not base64url without padding");
  return std::move(*bytes);
}

Bytes decode_member(const Json& object, const char* name) {
  const auto text = text_member(object, name);
  if (!text) malformed(std::string("\"") + name + "\" is missing or not text");
  return decode(*text, name);
}

Bytes optional_member(const Json& object, const char* name) {
  return object.contains(name) ? decode_member(object, name) : Bytes{};
}

constexpr const char* kBinding = "keyagent";
constexpr std::size_t kMaxBoundName = 128;

// Only this extension is supported; the caller that requested the credential checks its value.
void read_critical(const Json& header) {
  const auto critical = header.find("crit");
  if (critical == header.end()) return;
  if (*critical != Json::array({kBinding}) || !header.contains(kBinding))
    unsupported("\"crit\" names extensions; only \"keyagent\" is supported");
}

std::optional<Binding> read_binding(const Json& header) {
  const auto member = header.find(kBinding);
  if (member == header.end()) return std::nullopt;
  if (!member->is_object() || member->size() != 4) malformed("\"keyagent\" needs four members");
  const auto text = [&](const char* name) {
    auto value = text_member(*member, name);
    if (!value || value->empty() || value->size() > kMaxBoundName)
      malformed(std::string("\"keyagent\" lacks \"") + name + "\", or it is too long");
    return *std::move(value);
  };
  const auto version = member->find("version");
  if (version == member->end() || !version->is_number_unsigned() || *version == 0)
    malformed("\"keyagent\" lacks \"version\", or it is not a positive integer");
  return Binding{text("instance"), text("credential"), version->get<std::uint64_t>(),
                 text("agent")};
}

void read_algorithms(const Json& header, Jwe& jwe) {
  // RFC 7515 §4.1.11, RFC 7516 §4.1.3: understood or refused; compression leaks the text by its
  // length.
  read_critical(header);
  if (header.contains("zip"))
    unsupported("the content is compressed (\"zip\"); seal without compression");
  const auto alg = text_member(header, "alg");
  const auto enc = text_member(header, "enc");
  if (!alg || !enc) malformed("\"alg\" and \"enc\" must be there and be text");
  const auto algorithm = envelope_algorithm_of(*alg);
  if (!algorithm || *algorithm == EnvelopeAlgorithm::kNone) {
    unsupported("algorithm " + shown(*alg) +
                "; supported are RSA-OAEP, RSA-OAEP-256, ECDH-ES, ECDH-ES+A256KW and A256GCMKW");
  }
  jwe.algorithm = *algorithm;
  if (*enc == "A256GCM") {
    jwe.enc = ContentEncryption::kA256Gcm;
  } else if (*enc == "A128GCM") {
    jwe.enc = ContentEncryption::kA128Gcm;
  } else {
    unsupported("content encryption " + shown(*enc) + "; supported are A128GCM and A256GCM");
  }
  if (header.contains("kid")) {
    const auto kid = text_member(header, "kid");
    if (!kid) malformed("\"kid\" is not text");
    jwe.kid = *kid;
  }
}

void read_agreement(const Json& header, Jwe& jwe) {
  const auto epk = header.find("epk");
  if (epk == header.end() || !epk->is_object()) malformed("\"epk\" is missing or not an object");
  const auto kty = text_member(*epk, "kty");
  const auto crv = text_member(*epk, "crv");
  if (!kty || !crv) malformed("\"epk\" lacks \"kty\" or \"crv\"");
  if (*kty != "EC" || (*crv != "P-256" && *crv != "P-384")) {
    unsupported("ephemeral key of type " + shown(*kty) + ", curve " + shown(*crv) +
                "; supported is EC on P-256 and P-384");
  }
  jwe.curve = *crv == "P-256" ? KeyAlgorithm::kEcP256 : KeyAlgorithm::kEcP384;
  const Bytes x = decode_member(*epk, "x");
  const Bytes y = decode_member(*epk, "y");
  // RFC 7518 §6.2.1.2: as wide as the field, so that the length carries nothing.
  const std::size_t field = ec_field_size(jwe.curve);
  if (x.size() != field || y.size() != field) malformed("\"epk\" has a coordinate of wrong length");
  jwe.ephemeral_point.push_back(4);
  jwe.ephemeral_point.insert(jwe.ephemeral_point.end(), x.begin(), x.end());
  jwe.ephemeral_point.insert(jwe.ephemeral_point.end(), y.begin(), y.end());
  jwe.apu = optional_member(header, "apu");
  jwe.apv = optional_member(header, "apv");
}

// What the public lengths must be for the algorithm (RELIABILITY 104: decided before any key is
// used).
void check_lengths(const Jwe& jwe) {
  if (jwe.iv.size() != kGcmIv) malformed("the initialization vector must have 12 bytes");
  if (jwe.tag.size() != kGcmTag) malformed("the authentication tag must have 16 bytes");
  if (jwe.ciphertext.size() > kMaxPlaintext) malformed("the content exceeds 128 KiB");
  const std::size_t cek = cek_size(jwe.enc);
  switch (jwe.algorithm) {
    case EnvelopeAlgorithm::kEcdhEs:
      if (!jwe.encrypted_key.empty()) malformed("ECDH-ES has no encrypted key");
      return;
    case EnvelopeAlgorithm::kEcdhEsA256Kw:
      if (jwe.encrypted_key.size() != cek + kKeyWrapExtra) {
        malformed("the encrypted key has the wrong length");
      }
      return;
    case EnvelopeAlgorithm::kA256GcmKw:
      if (jwe.key_iv.size() != kGcmIv || jwe.key_tag.size() != kGcmTag ||
          jwe.encrypted_key.size() != cek) {
        malformed("the encrypted key, its \"iv\" or its \"tag\" has the wrong length");
      }
      return;
    default:
      return;  // RSA: open_jwe() knows the modulus
  }
}

void append_sized(Bytes& out, ByteView field) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<std::uint8_t>(field.size() >> static_cast<unsigned>(shift)));
  }
  out.insert(out.end(), field.begin(), field.end());
}

bool is_agreement(EnvelopeAlgorithm algorithm) {
  return algorithm == EnvelopeAlgorithm::kEcdhEs || algorithm == EnvelopeAlgorithm::kEcdhEsA256Kw;
}

}  // namespace

Jwe parse_jwe(std::string_view token) {
  if (!token.empty() && token.front() == '{') {
    unsupported("it uses the JSON serialization; use the compact one (`jose jwe enc -c`)");
  }
  const auto parts = split(token);
  Jwe jwe;
  jwe.header_text = parts[0];
  const Bytes header_bytes = decode(parts[0], "the header");
  const auto header = parse_strict_object(as_text(header_bytes), kJoseJson);
  if (!header) malformed("the header is not a JSON object with unique names");
  read_algorithms(*header, jwe);
  jwe.binding = read_binding(*header);
  if (is_agreement(jwe.algorithm)) read_agreement(*header, jwe);
  if (jwe.algorithm == EnvelopeAlgorithm::kA256GcmKw) {
    jwe.key_iv = decode_member(*header, "iv");
    jwe.key_tag = decode_member(*header, "tag");
  }
  jwe.encrypted_key = decode(parts[1], "the encrypted key");
  jwe.iv = decode(parts[2], "the initialization vector");
  jwe.ciphertext = decode(parts[3], "the text");
  jwe.tag = decode(parts[4], "the authentication tag");
  check_lengths(jwe);
  return jwe;
}

Bytes concat_info(std::string_view algorithm_id, ByteView apu, ByteView apv, std::size_t key_size) {
  Bytes info;
  append_sized(info, as_bytes(algorithm_id));
  append_sized(info, apu);
  append_sized(info, apv);
  const std::size_t bits = key_size * 8;
  for (int shift = 24; shift >= 0; shift -= 8) {
    info.push_back(static_cast<std::uint8_t>(bits >> static_cast<unsigned>(shift)));
  }
  return info;
}

std::string_view agreed_name(EnvelopeAlgorithm algorithm, ContentEncryption enc) {
  return algorithm == EnvelopeAlgorithm::kEcdhEs ? name_of(enc) : keyagent::name_of(algorithm);
}

std::size_t agreed_size(EnvelopeAlgorithm algorithm, ContentEncryption enc) {
  return algorithm == EnvelopeAlgorithm::kEcdhEs ? cek_size(enc) : 32;
}

}  // namespace keyagent::envelope
