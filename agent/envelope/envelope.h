// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sealed messages: JWE compact (RFC 7516, 7518) and CMS (RFC 5652, 5083, 3560, 5753). Seal needs a
// public key (or KeyOps for a storage key), open needs KeyOps.

#include <optional>
#include <string>

#include "agent/base/key_ops.h"

namespace keyagent::envelope {

enum class Format { kJwe, kCms };
enum class ContentEncryption { kA128Gcm, kA256Gcm };

// 256 KiB frames carry at most this much (base64url and framing considered).
inline constexpr std::size_t kMaxEnvelope = 180 * 1024;
inline constexpr std::size_t kMaxPlaintext = 128 * 1024;

// The use that an envelope of a credential is bound to: the JWE's protected header member
// "keyagent", authenticated with the content. It does not identify who sealed the envelope.
struct Binding {
  std::string instance;       // the id of the instance that keeps it
  std::string credential;     // its name there
  std::uint64_t version = 0;  // 1, 2, …
  std::string agent;          // the recipient's id at the instance

  bool operator==(const Binding&) const = default;
};

// What can be read from an envelope without a key. For CMS `kid` is empty when the recipient is
// named by issuer and serial.
struct Header {
  Format format = Format::kJwe;
  std::string
      kid;  // JWE "kid", or CMS SubjectKeyIdentifier mapped by the caller (see recipient_ids)
  EnvelopeAlgorithm algorithm = EnvelopeAlgorithm::kNone;
  std::vector<Bytes> recipient_ids;  // CMS: subject key identifiers, one a recipient
  bool authenticated = true;         // false: CMS with AES-CBC content
  bool armored = false;              // CMS as PEM
  std::optional<Binding> binding;    // JWE; nullopt: it has none
};

// Parses the public part only. Throws Error{kInput} for malformed bytes and Error{kUnsupported}
// naming the algorithm for `none`, RSA1_5, `zip`, unknown `crit`, CBC in JWE and whatever else is
// not supported here. Both are public facts of the bytes: no key was used. How the encoding is
// found: container.h.
Header inspect(ByteView envelope);

// RFC 5280 §4.2.1.2 (1): SHA-1 of the public key bits; how CMS recipients name our keys.
Bytes subject_key_identifier(ByteView spki);
// That one first, then those of RFC 7093 §2: the leftmost 160 bits of SHA-256, SHA-384 and SHA-512
// of the public key bits, and SHA-256 of the SubjectPublicKeyInfo.
std::vector<Bytes> key_identifiers(ByteView spki);

// Seals to `key.envelope` with key.kid in the header. Public keys only. Throws Error{kUnsupported}
// for a key that accepts AES-CBC: nothing is sealed to it here.
Bytes seal_jwe(const PublicKeyInfo& key, ContentEncryption enc, const SecretBytes& plaintext,
               const std::optional<Binding>& binding = std::nullopt);
Bytes seal_cms(const PublicKeyInfo& key, ContentEncryption enc, const SecretBytes& plaintext);
// Seals to a storage key (A256GCMKW) in the token.
Bytes seal_jwe(KeyOps& ops, const PublicKeyInfo& key, ContentEncryption enc,
               const SecretBytes& plaintext, const std::optional<Binding>& binding = std::nullopt);

// Opens with the key `kid`, which the caller found (from the header or by name) and authorized. The
// header's algorithm must be the key's own (RELIABILITY 100), and the content encryption of the
// kind that the key opens (RELIABILITY 156): Error{kUnsupported} otherwise, before the token is
// used. Every failure that depends on the key is thrown by throw_input_error() after the same work:
// a random CEK replaces one that did not decrypt. `named`: the user has named this key. The only
// recipient of a CMS message is then this key under any identifier, which is not authenticated.
SecretBytes open(KeyOps& ops, const PublicKeyInfo& key, ByteView envelope, bool named = false);

// JWK (RFC 7517) of a public key, with kid, use and alg; and back (kty RSA, EC, OKP). All three,
// and key_ops, may be missing: `purpose` is then what the key is for (default: what its algorithm
// says, else kSign). A JWK that says another purpose is refused. Both throw Error{kUsage}.
std::string to_jwk(const PublicKeyInfo& key);
PublicKeyInfo from_jwk(std::string_view json, std::optional<Purpose> purpose = std::nullopt);
// A key that came as DER SubjectPublicKeyInfo, with its kid and the purpose's default envelope
// algorithm. Throws Error{kUsage} for a type that keyagent does not use or that does not fit.
PublicKeyInfo key_of_spki(ByteView spki, Purpose purpose);

// JWS compact (RFC 7515): payload signed by the key; alg fixed by the key, `none` and mismatches
// refused. `type`: the header's "typ" (RFC 7515 §4.1.9), so that no signature is taken for another
// text's; empty: none is written, and any is taken.
std::string sign_jws(KeyOps& ops, const PublicKeyInfo& key, SignatureAlgorithm algorithm,
                     ByteView payload, std::string_view type = {});
// The payload, or Error{kIntegrity}.
Bytes verify_jws(const PublicKeyInfo& key, std::string_view jws, std::string_view type = {});
// Verification with OpenSSL on the public key; raw signature as KeyOps::sign returns it.
bool verify_signature(ByteView spki, SignatureAlgorithm algorithm, ByteView input,
                      ByteView signature);

}  // namespace keyagent::envelope
