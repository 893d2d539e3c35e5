// SPDX-License-Identifier: Apache-2.0
#pragma once
// All operations with private or secret keys, by kid. This is the only interface to them.
//
// Implementations: vault/token_vault (a PKCS#11 token), keys/guarded_keys (wraps any KeyOps and
// enforces the key's state), client/remote_keys (through an agent's socket). Envelopes,
// certificates, TLS and the audit signature depend only on this interface.

#include <optional>
#include <string>

#include "agent/base/bytes.h"
#include "agent/base/ids.h"
#include "agent/base/key_types.h"

namespace keyagent {

// The public properties of a key.
struct PublicKeyInfo {
  Kid kid;
  std::string name;
  KeyAlgorithm algorithm = KeyAlgorithm::kEcP256;
  Purpose purpose = Purpose::kSign;
  EnvelopeAlgorithm envelope = EnvelopeAlgorithm::kNone;
  Bytes spki;  // DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7); empty for a secret key
  // Opens CMS EnvelopedData with AES-CBC, which is not authenticated, and nothing else. False:
  // opens authenticated content and nothing else. Fixed when the key is created, so that a key that
  // was wrapped for one kind of content never opens the other (RFC 9709 §1).
  bool accepts_cbc = false;
};

// A content encryption key under a storage key: RFC 7518 §4.7.
struct WrappedCek {
  Bytes iv;          // 12 bytes
  Bytes ciphertext;  // as long as the CEK
  Bytes tag;         // 16 bytes
};

// All methods may be called from any thread and may block for one token operation. All throw Error:
// kKeyNotPresent for an unknown kid, kKeyState where the state forbids it, kUnsupported where key
// and operation do not fit, and the token codes. None throws for what an attacker can choose in a
// ciphertext: those that recover a CEK answer with random bytes of the asked size instead (implicit
// rejection, RFC 7516 §11.5), so that the authenticated decryption that follows is the only place
// that fails, always in the same way and at the same point. decrypt() has nothing that follows: it
// answers no, in one way for all reasons.
class KeyOps {
 public:
  virtual ~KeyOps() = default;

  virtual PublicKeyInfo public_key(const Kid& kid) = 0;

  // Signs `input`: a digest of exactly digest_size(digest_of(algorithm)) bytes, or for EdDSA the
  // whole message. Returns PKCS#1 v1.5 or PSS (salt = digest size) of the modulus size, or r‖s of
  // fixed width (IEEE P1363), or 64 bytes of EdDSA. The signature has been verified where the
  // vault's policy requires it (always for RSA). Throws kUnsupported for another algorithm or size.
  virtual Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) = 0;

  // RSAES-OAEP decryption of a CEK (RFC 8017 §7.1.2), empty label. `ciphertext` must have the
  // modulus size and `cek_size` be 16 or 32 (both public: kInput otherwise). Implicit rejection.
  virtual SecretBytes decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                                  std::size_t cek_size) = 0;

  // The same for a message of at most modulus - 2 hash - 2 bytes whose length is not known before:
  // nullopt for every ciphertext that does not decrypt. Only for callers that may learn this.
  virtual std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash,
                                             ByteView ciphertext) = 0;

  // ECDH (SP 800-56A §5.7.1.2). `peer_point` is an uncompressed SEC1 point on the key's curve,
  // checked to be on it (kInput otherwise). Returns the x coordinate, as wide as the field.
  virtual SecretBytes agree(const Kid& kid, ByteView peer_point) = 0;

  // AES-256-GCM of a CEK (16 or 32 bytes) under a storage key, with a fresh random IV.
  virtual WrappedCek wrap_cek(const Kid& kid, const SecretBytes& cek) = 0;
  // The inverse. Implicit rejection.
  virtual SecretBytes unwrap_cek(const Kid& kid, const WrappedCek& wrapped,
                                 std::size_t cek_size) = 0;
};

}  // namespace keyagent
