// SPDX-License-Identifier: Apache-2.0
#pragma once
// EME-OAEP decoding (RFC 8017 §7.1.2 step 3) in constant time, for tokens that offer raw RSA only.

#include <optional>

#include "pkcs11/key.h"

namespace keyagent::pkcs11 {

struct OaepResult {
  std::uint8_t valid;   // 0xFF or 0x00, not yet branched upon
  SecretBytes message;  // exactly `size` bytes: the message, or random where not valid
};

// `encoded`: the full block, as long as the modulus (k bytes, leading zero included; a token that
// strips leading zeros is padded by the caller). `size`: the only message length that is accepted
// (public). No branch, index or length depends on the content: Manger's attack (CRYPTO 2001) needs
// to learn whether the first byte is zero. REQUIRES k >= 2*hLen + 2.
OaepResult oaep_decode(Hash hash, const SecretBytes& encoded, std::size_t size);

// The same for a message of unknown length: nullopt when the block is not valid. Its validity and
// the length of a valid message are visible; no branch or index depends on anything else in the
// block.
std::optional<SecretBytes> oaep_decode(Hash hash, const SecretBytes& encoded);

}  // namespace keyagent::pkcs11
