// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys: created with a complete, write-once, single-purpose template; used through a leased
// session. PKCS#11 v3.0 base specification §5.14 (key management), current mechanisms §2.1 (RSA),
// §2.3 (EC), §2.11, §2.13 (AES).

#include <optional>
#include <string>

#include "pkcs11/session.h"

namespace keyagent::pkcs11 {

enum class KeyKind { kRsa2048, kRsa3072, kRsa4096, kEcP256, kEcP384, kEd25519, kAes256 };

// The single usage of a key: the template sets it and denies all others.
enum class Usage {
  kSign,     // SIGN (public: VERIFY)
  kDecrypt,  // DECRYPT (public: ENCRYPT)
  kDerive,   // DERIVE (ECDH)
  kUnwrap,   // UNWRAP (public: WRAP)
  kEncrypt,  // secret keys: ENCRYPT and DECRYPT
  kWrap,     // secret keys: WRAP and UNWRAP
};

struct KeySpec {
  KeyKind kind = KeyKind::kEcP256;
  Usage usage = Usage::kSign;
  Bytes cka_id;              // chosen (and journaled) by the caller, 16 random bytes
  std::string label;         // CKA_LABEL, for people
  bool extractable = false;  // wrappable by an authenticated mechanism; SENSITIVE stays TRUE
};

enum class Hash { kNone, kSha1, kSha256, kSha384, kSha512 };
enum class SignScheme { kPkcs1, kPss, kEcdsa, kEdDsa };

// Generates in the token: CKA_TOKEN, PRIVATE, SENSITIVE, not EXTRACTABLE, one usage; MODIFIABLE and
// COPYABLE FALSE where the profile allows. Returns the DER SubjectPublicKeyInfo (empty for a secret
// key). Not idempotent: run with once = true, and reconcile by cka_id after a fault (RELIABILITY
// 21). Throws Error{kUnsupported} before the call when the profile lacks it.
Bytes generate(Session& session, const KeySpec& spec);

// The public key of a pair as DER SubjectPublicKeyInfo, from the public object (Error{kObject} when
// there is not exactly one). EC points are accepted DER-wrapped or raw, distinguished by the
// curve's length (RELIABILITY 62), and checked to be on the curve.
Bytes read_public_key(Session& session, const Bytes& cka_id);

// `input`: the digest (of `hash`) for kPkcs1, kPss and kEcdsa, the message for kEdDsa. Returns the
// raw signature: modulus size, r‖s of fixed width, or 64 bytes. PSS uses MGF1 with the same hash
// and salt of its length. Length is checked (Error{kOutput}); whether it verifies is
// verify_signature()'s matter.
Bytes sign(Session& session, const Bytes& cka_id, KeyKind kind, SignScheme scheme, Hash hash,
           ByteView input);

// With OpenSSL, on the public key only. False for anything that does not verify; never throws for
// bad bytes.
bool verify_signature(ByteView spki, SignScheme scheme, Hash hash, ByteView input,
                      ByteView signature);

// RSAES-OAEP, MGF1 with the same hash, empty label, by the profile's path for that hash (native, or
// raw RSA in the token and constant-time removal here). Returns exactly `size` bytes: the
// plaintext, or random bytes for every ciphertext that does not decrypt to `size` bytes (implicit
// rejection). `ciphertext` must have the modulus size (Error{kRv} CKR_ENCRYPTED_DATA_LEN_RANGE).
// kAmbiguous codes are thrown: Token::run() asks the canary, and the caller treats "canary passed"
// as bad input.
SecretBytes oaep_decrypt(Session& session, const Bytes& cka_id, Hash hash, ByteView ciphertext,
                         std::size_t size);

// The same for a message of unknown length: nullopt for every ciphertext that does not decrypt. For
// results that a caller may see; for a CEK use the function above, which hides whether it
// decrypted.
std::optional<SecretBytes> oaep_decrypt(Session& session, const Bytes& cka_id, Hash hash,
                                        ByteView ciphertext);

// ECDH with CKD_NULL; `peer_point` uncompressed SEC1. Derives a readable session secret, reads it,
// destroys it.
SecretBytes ecdh(Session& session, const Bytes& cka_id, KeyKind kind, ByteView peer_point);

struct Gcm {
  Bytes ciphertext;
  Bytes tag;  // 16 bytes
};
// AES-256-GCM with a 12-byte IV and additional data.
Gcm gcm_encrypt(Session& session, const Bytes& cka_id, ByteView iv, ByteView aad,
                const SecretBytes& plaintext);
// nullopt when the tag does not verify.
std::optional<SecretBytes> gcm_decrypt(Session& session, const Bytes& cka_id, ByteView iv,
                                       ByteView aad, ByteView ciphertext, ByteView tag);

enum class WrapScheme { kAesKw, kAesKwp, kRsaOaepSha1, kRsaOaepSha256 };
// Wraps the key `target` (any class) under `wrapping` (a secret key for AES, a public key for RSA).
Bytes wrap(Session& session, const KeyId& wrapping, WrapScheme scheme, const KeyId& target);
// Unwraps into a token object with a forced template: `spec`'s usage, SENSITIVE, not EXTRACTABLE,
// MODIFIABLE FALSE. Error{kRv} of class kInput or kAmbiguous for bytes that do not unwrap.
void unwrap(Session& session, const KeyId& unwrapping, WrapScheme scheme, ByteView wrapped,
            const KeySpec& spec);

// Destroys every token object with this id (public, private, secret), then checks again on this
// session. True when none is left.
bool destroy(Session& session, const Bytes& cka_id);

}  // namespace keyagent::pkcs11
