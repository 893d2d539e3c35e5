// SPDX-License-Identifier: Apache-2.0
#pragma once
// The vocabulary of keys: algorithms, purposes, states, and the names that people and files use for
// them.

#include <cstddef>
#include <optional>
#include <string_view>

namespace keyagent {

enum class KeyAlgorithm { kRsa2048, kRsa3072, kRsa4096, kEcP256, kEcP384, kEd25519, kAes256 };

// The one thing that a key may do (MISSION.md). Purposes never share a key.
enum class Purpose {
  kTransport,
  kAuth,
  kSign,
  kStorage,
  kExchange,
  kAudit,
  // Keys that attest others. They sign only statements that the agent builds, or parses and
  // accepts, itself (gate/op_statement.cpp).
  kIdentity,  // of an instance towards other instances: offers, packages, messages
  kCa,        // certificates and revocation lists
  kConfirm    // what an instance confirms to its agents
};

// SP 800-57 part 1 §7. `active` and `destroyed` are used today; the rest is for rekey.
enum class KeyState { kStaged, kActive, kSuspended, kDeactivated, kCompromised, kDestroyed };

// How envelopes are sealed to a key: the JOSE `alg`, fixed when the key is created (RFC 7518 §4).
enum class EnvelopeAlgorithm { kNone, kRsaOaep, kRsaOaep256, kEcdhEs, kEcdhEsA256Kw, kA256GcmKw };

// JOSE names (RFC 7518 §3.1, RFC 8037). Input to sign(): the digest for all but EdDSA, which takes
// the message.
enum class SignatureAlgorithm {
  kRs256,
  kRs384,
  kRs512,
  kPs256,
  kPs384,
  kPs512,
  kEs256,
  kEs384,
  kEdDsa
};

// Hash and MGF1 hash of RSAES-OAEP (RFC 8017 §7.1), always with an empty label.
enum class OaepHash { kSha1, kSha256 };

enum class DigestAlgorithm { kNone, kSha256, kSha384, kSha512 };

// "rsa-2048" "rsa-3072" "rsa-4096" "ec-p256" "ec-p384" "ed25519" "aes-256"
std::string_view name_of(KeyAlgorithm);
// "transport" "auth" "sign" "storage" "exchange" "audit" "identity" "ca" "confirm"
std::string_view name_of(Purpose);
// "staged" "active" "suspended" "deactivated" "compromised" "destroyed"
std::string_view name_of(KeyState);
// "" "RSA-OAEP" "RSA-OAEP-256" "ECDH-ES" "ECDH-ES+A256KW" "A256GCMKW"
std::string_view name_of(EnvelopeAlgorithm);
// "RS256" … "EdDSA"
std::string_view name_of(SignatureAlgorithm);

std::optional<KeyAlgorithm> key_algorithm_of(std::string_view name);
std::optional<Purpose> purpose_of(std::string_view name);
std::optional<KeyState> key_state_of(std::string_view name);
std::optional<EnvelopeAlgorithm> envelope_algorithm_of(std::string_view name);
std::optional<SignatureAlgorithm> signature_algorithm_of(std::string_view name);

bool is_rsa(KeyAlgorithm);
// Modulus size in bytes of an RSA key; 0 for others.
std::size_t rsa_modulus_size(KeyAlgorithm);
// Size in bytes of a field element: 32 for P-256, 48 for P-384, 0 for others.
std::size_t ec_field_size(KeyAlgorithm);
DigestAlgorithm digest_of(SignatureAlgorithm);
// Size in bytes of a digest: 0, 32, 48, 64.
std::size_t digest_size(DigestAlgorithm);

// May a key of this algorithm sign so? ES256 needs P-256, ES384 needs P-384, EdDSA needs Ed25519,
// RS/PS need RSA.
bool can_sign(KeyAlgorithm, SignatureAlgorithm);
// The signature algorithm when the caller names none: PS256, ES256, ES384, EdDSA; nullopt for AES.
std::optional<SignatureAlgorithm> default_signature(KeyAlgorithm);

// Purposes that sign: auth, sign, audit, identity, ca, confirm. Purposes that open envelopes:
// transport, storage. (An exchange key only unwraps keys into its token; its RSA or EC pair is
// created with UNWRAP or DERIVE and no envelope algorithm.)
bool signs(Purpose);
bool opens(Purpose);
// identity, ca, confirm: no caller chooses what such a key signs (RELIABILITY 144).
bool vouches(Purpose);
// Is this a pair that a key may be created with? (storage is AES-256; transport and exchange are
// RSA or EC; the signing purposes are RSA, EC or Ed25519.)
bool allowed(Purpose, KeyAlgorithm);
// The algorithm and envelope algorithm of a key created without one being named: transport rsa-3072
// with RSA-OAEP-256, exchange rsa-3072, storage aes-256 with A256GCMKW, the signing purposes
// ec-p256.
KeyAlgorithm default_algorithm(Purpose);
EnvelopeAlgorithm default_envelope(Purpose, KeyAlgorithm);
// May envelopes be sealed so to such a key?
bool can_seal(KeyAlgorithm, EnvelopeAlgorithm);

}  // namespace keyagent
