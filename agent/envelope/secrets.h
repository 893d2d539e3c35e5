// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is done with secret bytes in our own memory: authenticated encryption, key derivation, key
// wrap. Botan; internal to this room. All functions are thread-safe. Sizes are public, contents are
// not: no branch and no index depends on a secret byte.

#include <string_view>

#include "agent/base/bytes.h"

namespace keyagent::envelope {

inline constexpr std::size_t kGcmIv = 12;
inline constexpr std::size_t kGcmTag = 16;
inline constexpr std::size_t kAesBlock = 16;
inline constexpr std::size_t kKeyWrapExtra = 8;  // RFC 3394: the wrapped key is this much longer

struct Sealed {
  Bytes iv, ciphertext, tag;
};

// AES-GCM (SP 800-38D) with a fresh random IV. `key`: 16 or 32 bytes.
Sealed gcm_seal(const SecretBytes& key, ByteView aad, const SecretBytes& plaintext);
// The plaintext, or throw_input_error(). REQUIRES iv of kGcmIv and tag of kGcmTag bytes.
SecretBytes gcm_open(const SecretBytes& key, ByteView iv, ByteView aad, ByteView ciphertext,
                     ByteView tag);
// AES-CBC with the padding of RFC 5652 §6.3, which is checked without a branch on it (RELIABILITY
// 105). The plaintext, or throw_input_error(). Unauthenticated: see README. REQUIRES iv of one
// block, ciphertext of one or more whole blocks.
SecretBytes cbc_open(const SecretBytes& key, ByteView iv, ByteView ciphertext);

enum class KdfHash { kSha1, kSha256, kSha384, kSha512 };
// SP 800-56A §5.8.1 (RFC 7518 §4.6.2): H(counter || Z || info).
SecretBytes concat_kdf(const SecretBytes& z, ByteView info, std::size_t size);
// ANSI X9.63 (RFC 5753 §7.1.1, SEC 1 §3.6.1): H(Z || counter || info).
SecretBytes x963_kdf(KdfHash hash, const SecretBytes& z, ByteView info, std::size_t size);

// RFC 3394. `kek`: 16 or 32 bytes; `key`: 16 or 32.
Bytes aes_kw_wrap(const SecretBytes& kek, const SecretBytes& key);
// wrapped.size() - 8 bytes: the key, or random bytes where the integrity check fails (implicit
// rejection). Same work either way.
SecretBytes aes_kw_unwrap(const SecretBytes& kek, ByteView wrapped);

}  // namespace keyagent::envelope
