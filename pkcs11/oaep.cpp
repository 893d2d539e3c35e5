// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/oaep.h"

#include <botan/hash.h>
#include <botan/system_rng.h>

#include <algorithm>
#include <memory>

#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

// Masks instead of branches: 0xFF for true, 0x00 for false. The arithmetic is on 32 bits so that
// nothing overflows, and `hide` keeps the compiler from turning a mask back into a branch.
using Mask = std::uint8_t;

std::uint32_t hide(std::uint32_t value) {
  asm("" : "+r"(value));
  return value;
}

Mask is_zero(std::uint32_t value) {
  return static_cast<Mask>(hide((~value & (value - 1)) >> 31) * 0xFF);
}
Mask is_equal(std::uint32_t a, std::uint32_t b) {
  return is_zero(a ^ b);
}
std::uint8_t select(Mask mask, std::uint8_t yes, std::uint8_t no) {
  return static_cast<std::uint8_t>((yes & mask) | (no & static_cast<Mask>(~mask)));
}

std::uint32_t select_index(Mask mask, std::uint32_t yes, std::uint32_t no) {
  const std::uint32_t wide = hide(0U - (mask & 1U));
  return (yes & wide) | (no & ~wide);
}

// MGF1 (RFC 8017 §B.2.1), XORed into `out`.
void mgf1_xor(Botan::HashFunction& hash, const std::uint8_t* seed, std::size_t seed_size,
              std::uint8_t* out, std::size_t size) {
  SecretBytes block(hash.output_length());
  for (std::uint32_t counter = 0; size > 0; ++counter) {
    hash.update(seed, seed_size);
    hash.update_be(counter);
    hash.final(block.data());
    const std::size_t count = std::min(size, block.size());
    for (std::size_t i = 0; i < count; ++i) out[i] ^= block[i];
    out += count;
    size -= count;
  }
}

// The unmasked data block DB = lHash ‖ PS ‖ 1 ‖ M, and its checks before the message is searched
// for (RFC 8017 §7.1.2 step 3, b to f).
struct Unmasked {
  SecretBytes block;        // the whole encoded message; DB is its end
  std::uint8_t* db;         // in `block`
  std::size_t db_size = 0;  // k - hLen - 1
  std::size_t padding = 0;  // where PS begins in DB: hLen
  Mask valid = 0;           // first byte and lHash
};

Unmasked unmask(Hash hash_name, const SecretBytes& encoded, std::size_t size) {
  const auto hash =
      Botan::HashFunction::create_or_throw(hash_name == Hash::kSha1 ? "SHA-1" : "SHA-256");
  const std::size_t h = hash->output_length();
  const std::size_t k = encoded.size();
  if (k < 2 * h + 2 + size) {
    throw Error(Error::Kind::kUnsupported, "the message is too long for an RSA key of this size");
  }
  Unmasked out{encoded, nullptr, k - h - 1, h, 0};
  std::uint8_t* seed = out.block.data() + 1;
  out.db = seed + h;
  mgf1_xor(*hash, out.db, out.db_size, seed, h);
  mgf1_xor(*hash, seed, h, out.db, out.db_size);

  const auto empty_label = hash->process(nullptr, 0);
  out.valid = is_zero(out.block[0]);
  for (std::size_t i = 0; i < h; ++i) out.valid &= is_equal(out.db[i], empty_label[i]);
  return out;
}

}  // namespace

// The attacks that this is written against: J. Manger, "A Chosen Ciphertext Attack on RSA OAEP"
// (CRYPTO 2001), which needs to learn whether the first byte is zero; and the timing variants after
// it. The accept bit is folded in at the very end.
OaepResult oaep_decode(Hash hash, const SecretBytes& encoded, std::size_t size) {
  const Unmasked text = unmask(hash, encoded, size);
  // The message length is public, so DB = lHash ‖ 0…0 ‖ 1 ‖ M has one form only.
  const std::size_t separator = text.db_size - size - 1;
  Mask valid = text.valid;
  for (std::size_t i = text.padding; i < separator; ++i) valid &= is_zero(text.db[i]);
  valid &= is_equal(text.db[separator], 1);

  OaepResult result{valid, SecretBytes(size)};
  Botan::system_rng().randomize(result.message.data(), result.message.size());
  for (std::size_t i = 0; i < size; ++i)
    result.message[i] = select(valid, text.db[separator + 1 + i], result.message[i]);
  return result;
}

std::optional<SecretBytes> oaep_decode(Hash hash, const SecretBytes& encoded) {
  const Unmasked text = unmask(hash, encoded, 0);
  // The first byte of DB behind lHash that is not zero must be the 1 before the message: every byte
  // is checked, wherever that was.
  Mask valid = text.valid, searching = 0xFF;
  std::uint32_t message = 0;
  for (std::size_t i = text.padding; i < text.db_size; ++i) {
    const Mask zero = is_zero(text.db[i]), one = is_equal(text.db[i], 1);
    message = select_index(static_cast<Mask>(searching & one), static_cast<std::uint32_t>(i + 1),
                           message);
    valid &= static_cast<Mask>(~searching | zero | one);
    searching &= zero;
  }
  valid &= static_cast<Mask>(~searching);
  if (hide(valid) == 0) return std::nullopt;
  return SecretBytes(text.db + message, text.db + text.db_size);
}

}  // namespace keyagent::pkcs11
