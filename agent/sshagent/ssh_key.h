// SPDX-License-Identifier: Apache-2.0
#pragma once
// Public keys and signatures as SSH writes them: RFC 4253 section 6.6 (RSA), RFC 5656 section 3.1
// (ECDSA), RFC 8332 (RSA with SHA-2), RFC 8709 (Ed25519). Functions are thread-safe.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/bytes.h"
#include "agent/base/key_types.h"

namespace keyagent::sshagent {

// The key blob of a DER SubjectPublicKeyInfo. Throws Error{kUsage} for a key other than RSA, P-256,
// P-384, P-521 and Ed25519.
Bytes key_blob(ByteView spki);
// The inverse. Throws Error{kUsage} for another type (certificates too), a malformed blob, an RSA
// modulus outside 1024 to 16384 bits, or a point that is not on its curve.
Bytes spki_of_blob(ByteView blob);
// What `ssh-keygen -l` shows of a key blob: "SHA256:…".
std::string fingerprint(ByteView blob);
// A line of authorized_keys(5) without its end: "ssh-ed25519 AAAA… comment".
std::string authorized_key(ByteView spki, std::string_view comment);

// How a key signs for SSH.
struct SshSignature {
  std::string_view name;  // "rsa-sha2-512"
  SignatureAlgorithm algorithm;
};
// Flags of SSH_AGENTC_SIGN_REQUEST.
inline constexpr std::uint32_t kRsaSha256 = 2, kRsaSha512 = 4;
// What an agent's key signs with under these flags; nullopt for RSA with SHA-1 (no flag) and for
// keys that do not sign.
std::optional<SshSignature> signature_for(KeyAlgorithm key, std::uint32_t flags);
// What KeyOps::sign() takes for `data`: its digest, or for Ed25519 itself.
Bytes signature_input(SignatureAlgorithm algorithm, ByteView data);
// The signature blob of what KeyOps::sign() gave (r||s for ECDSA).
Bytes signature_blob(const SshSignature& how, ByteView raw);

// Is `signature` (a signature blob) one over `data` by the key of `blob`? RSA with SHA-2 only.
// False for whatever is malformed in the signature; throws Error{kUsage} as spki_of_blob().
bool verify_blob(ByteView blob, ByteView signature, ByteView data);

}  // namespace keyagent::sshagent
