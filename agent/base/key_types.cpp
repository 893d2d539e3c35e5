// SPDX-License-Identifier: Apache-2.0
#include "agent/base/key_types.h"

#include <array>
#include <utility>

namespace keyagent {

namespace {

template <typename Enum, std::size_t N>
using Names = std::array<std::pair<Enum, std::string_view>, N>;

constexpr Names<KeyAlgorithm, 7> kAlgorithms{{{KeyAlgorithm::kRsa2048, "rsa-2048"},
                                              {KeyAlgorithm::kRsa3072, "rsa-3072"},
                                              {KeyAlgorithm::kRsa4096, "rsa-4096"},
                                              {KeyAlgorithm::kEcP256, "ec-p256"},
                                              {KeyAlgorithm::kEcP384, "ec-p384"},
                                              {KeyAlgorithm::kEd25519, "ed25519"},
                                              {KeyAlgorithm::kAes256, "aes-256"}}};

constexpr Names<Purpose, 9> kPurposes{{{Purpose::kTransport, "transport"},
                                       {Purpose::kAuth, "auth"},
                                       {Purpose::kSign, "sign"},
                                       {Purpose::kStorage, "storage"},
                                       {Purpose::kExchange, "exchange"},
                                       {Purpose::kAudit, "audit"},
                                       {Purpose::kIdentity, "identity"},
                                       {Purpose::kCa, "ca"},
                                       {Purpose::kConfirm, "confirm"}}};

constexpr Names<KeyState, 6> kStates{{{KeyState::kStaged, "staged"},
                                      {KeyState::kActive, "active"},
                                      {KeyState::kSuspended, "suspended"},
                                      {KeyState::kDeactivated, "deactivated"},
                                      {KeyState::kCompromised, "compromised"},
                                      {KeyState::kDestroyed, "destroyed"}}};

constexpr Names<EnvelopeAlgorithm, 6> kEnvelopes{
    {{EnvelopeAlgorithm::kNone, ""},
     {EnvelopeAlgorithm::kRsaOaep, "RSA-OAEP"},
     {EnvelopeAlgorithm::kRsaOaep256, "RSA-OAEP-256"},
     {EnvelopeAlgorithm::kEcdhEs, "ECDH-ES"},
     {EnvelopeAlgorithm::kEcdhEsA256Kw, "ECDH-ES+A256KW"},
     {EnvelopeAlgorithm::kA256GcmKw, "A256GCMKW"}}};

constexpr Names<SignatureAlgorithm, 9> kSignatures{{{SignatureAlgorithm::kRs256, "RS256"},
                                                    {SignatureAlgorithm::kRs384, "RS384"},
                                                    {SignatureAlgorithm::kRs512, "RS512"},
                                                    {SignatureAlgorithm::kPs256, "PS256"},
                                                    {SignatureAlgorithm::kPs384, "PS384"},
                                                    {SignatureAlgorithm::kPs512, "PS512"},
                                                    {SignatureAlgorithm::kEs256, "ES256"},
                                                    {SignatureAlgorithm::kEs384, "ES384"},
                                                    {SignatureAlgorithm::kEdDsa, "EdDSA"}}};

template <typename Enum, std::size_t N>
constexpr std::string_view find_name(const Names<Enum, N>& names, Enum value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  return "?";
}

template <typename Enum, std::size_t N>
constexpr std::optional<Enum> find_value(const Names<Enum, N>& names, std::string_view name) {
  for (const auto& [value, known] : names) {
    if (known == name) return value;
  }
  return std::nullopt;
}

bool is_ec(KeyAlgorithm a) {
  return ec_field_size(a) != 0;
}

}  // namespace

std::string_view name_of(KeyAlgorithm a) {
  return find_name(kAlgorithms, a);
}
std::string_view name_of(Purpose p) {
  return find_name(kPurposes, p);
}
std::string_view name_of(KeyState s) {
  return find_name(kStates, s);
}
std::string_view name_of(EnvelopeAlgorithm a) {
  return find_name(kEnvelopes, a);
}
std::string_view name_of(SignatureAlgorithm a) {
  return find_name(kSignatures, a);
}

std::optional<KeyAlgorithm> key_algorithm_of(std::string_view name) {
  return find_value(kAlgorithms, name);
}
std::optional<Purpose> purpose_of(std::string_view name) {
  return find_value(kPurposes, name);
}
std::optional<KeyState> key_state_of(std::string_view name) {
  return find_value(kStates, name);
}
std::optional<EnvelopeAlgorithm> envelope_algorithm_of(std::string_view name) {
  return find_value(kEnvelopes, name);
}
std::optional<SignatureAlgorithm> signature_algorithm_of(std::string_view name) {
  return find_value(kSignatures, name);
}

bool is_rsa(KeyAlgorithm a) {
  return rsa_modulus_size(a) != 0;
}

std::size_t rsa_modulus_size(KeyAlgorithm a) {
  switch (a) {
    case KeyAlgorithm::kRsa2048:
      return 256;
    case KeyAlgorithm::kRsa3072:
      return 384;
    case KeyAlgorithm::kRsa4096:
      return 512;
    default:
      return 0;
  }
}

std::size_t ec_field_size(KeyAlgorithm a) {
  if (a == KeyAlgorithm::kEcP256) return 32;
  return a == KeyAlgorithm::kEcP384 ? 48 : 0;
}

DigestAlgorithm digest_of(SignatureAlgorithm a) {
  switch (a) {
    case SignatureAlgorithm::kRs256:
    case SignatureAlgorithm::kPs256:
    case SignatureAlgorithm::kEs256:
      return DigestAlgorithm::kSha256;
    case SignatureAlgorithm::kRs384:
    case SignatureAlgorithm::kPs384:
    case SignatureAlgorithm::kEs384:
      return DigestAlgorithm::kSha384;
    case SignatureAlgorithm::kRs512:
    case SignatureAlgorithm::kPs512:
      return DigestAlgorithm::kSha512;
    case SignatureAlgorithm::kEdDsa:
      return DigestAlgorithm::kNone;
  }
  return DigestAlgorithm::kNone;
}

std::size_t digest_size(DigestAlgorithm a) {
  switch (a) {
    case DigestAlgorithm::kNone:
      return 0;
    case DigestAlgorithm::kSha256:
      return 32;
    case DigestAlgorithm::kSha384:
      return 48;
    case DigestAlgorithm::kSha512:
      return 64;
  }
  return 0;
}

bool can_sign(KeyAlgorithm key, SignatureAlgorithm signature) {
  switch (signature) {
    case SignatureAlgorithm::kEs256:
      return key == KeyAlgorithm::kEcP256;
    case SignatureAlgorithm::kEs384:
      return key == KeyAlgorithm::kEcP384;
    case SignatureAlgorithm::kEdDsa:
      return key == KeyAlgorithm::kEd25519;
    default:
      return is_rsa(key);
  }
}

std::optional<SignatureAlgorithm> default_signature(KeyAlgorithm key) {
  if (is_rsa(key)) return SignatureAlgorithm::kPs256;
  switch (key) {
    case KeyAlgorithm::kEcP256:
      return SignatureAlgorithm::kEs256;
    case KeyAlgorithm::kEcP384:
      return SignatureAlgorithm::kEs384;
    case KeyAlgorithm::kEd25519:
      return SignatureAlgorithm::kEdDsa;
    default:
      return std::nullopt;
  }
}

bool signs(Purpose p) {
  return p == Purpose::kAuth || p == Purpose::kSign || p == Purpose::kAudit || vouches(p);
}

bool vouches(Purpose p) {
  return p == Purpose::kIdentity || p == Purpose::kCa || p == Purpose::kConfirm;
}

bool opens(Purpose p) {
  return p == Purpose::kTransport || p == Purpose::kStorage;
}

bool allowed(Purpose purpose, KeyAlgorithm algorithm) {
  if (purpose == Purpose::kStorage) return algorithm == KeyAlgorithm::kAes256;
  if (is_rsa(algorithm) || is_ec(algorithm)) return true;
  return signs(purpose) && algorithm == KeyAlgorithm::kEd25519;
}

KeyAlgorithm default_algorithm(Purpose purpose) {
  switch (purpose) {
    case Purpose::kTransport:
    case Purpose::kExchange:
      return KeyAlgorithm::kRsa3072;
    case Purpose::kStorage:
      return KeyAlgorithm::kAes256;
    default:
      return KeyAlgorithm::kEcP256;
  }
}

EnvelopeAlgorithm default_envelope(Purpose purpose, KeyAlgorithm algorithm) {
  if (!opens(purpose) || !allowed(purpose, algorithm)) return EnvelopeAlgorithm::kNone;
  if (purpose == Purpose::kStorage) return EnvelopeAlgorithm::kA256GcmKw;
  return is_rsa(algorithm) ? EnvelopeAlgorithm::kRsaOaep256 : EnvelopeAlgorithm::kEcdhEsA256Kw;
}

bool can_seal(KeyAlgorithm key, EnvelopeAlgorithm envelope) {
  switch (envelope) {
    case EnvelopeAlgorithm::kNone:
      return false;
    case EnvelopeAlgorithm::kRsaOaep:
    case EnvelopeAlgorithm::kRsaOaep256:
      return is_rsa(key);
    case EnvelopeAlgorithm::kEcdhEs:
    case EnvelopeAlgorithm::kEcdhEsA256Kw:
      return is_ec(key);
    case EnvelopeAlgorithm::kA256GcmKw:
      return key == KeyAlgorithm::kAes256;
  }
  return false;
}

}  // namespace keyagent
