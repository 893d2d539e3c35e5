// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/secrets.h"

#include <botan/aead.h>
#include <botan/block_cipher.h>
#include <botan/cipher_mode.h>
#include <botan/exceptn.h>
#include <botan/hash.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::envelope {

namespace {

#if BOTAN_VERSION_MAJOR >= 3
constexpr auto kEncrypt = Botan::Cipher_Dir::Encryption;
constexpr auto kDecrypt = Botan::Cipher_Dir::Decryption;
#else
constexpr auto kEncrypt = Botan::ENCRYPTION;
constexpr auto kDecrypt = Botan::DECRYPTION;
#endif

std::string aes_name(std::size_t key_size) {
  return key_size == 16 ? "AES-128" : "AES-256";
}

std::unique_ptr<Botan::AEAD_Mode> start_gcm(Botan::Cipher_Dir direction, const SecretBytes& key,
                                            ByteView iv, ByteView aad) {
  auto mode = Botan::AEAD_Mode::create_or_throw(aes_name(key.size()) + "/GCM(16)", direction);
  mode->set_key(key.data(), key.size());
  mode->set_associated_data(aad.data(), aad.size());
  mode->start(iv.data(), iv.size());
  return mode;
}

std::unique_ptr<Botan::BlockCipher> start_block(const SecretBytes& key) {
  auto cipher = Botan::BlockCipher::create_or_throw(aes_name(key.size()));
  cipher->set_key(key.data(), key.size());
  return cipher;
}

// 0xFF when the byte is zero, 0x00 otherwise.
std::uint8_t zero_mask(std::uint8_t byte) {
  return static_cast<std::uint8_t>((static_cast<std::uint32_t>(byte) - 1U) >> 8U);
}

// 0xFF when a < b, 0x00 otherwise, for values below 2^31.
std::uint8_t less_mask(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint8_t>(0U - ((a - b) >> 31U));
}

const char* hash_name(KdfHash hash) {
  switch (hash) {
    case KdfHash::kSha1:
      return "SHA-1";
    case KdfHash::kSha256:
      return "SHA-256";
    case KdfHash::kSha384:
      return "SHA-384";
    case KdfHash::kSha512:
      return "SHA-512";
  }
  return "";
}

void update_counter(Botan::HashFunction& hash, std::uint32_t counter) {
  const std::array<std::uint8_t, 4> bytes{
      static_cast<std::uint8_t>(counter >> 24U), static_cast<std::uint8_t>(counter >> 16U),
      static_cast<std::uint8_t>(counter >> 8U), static_cast<std::uint8_t>(counter)};
  hash.update(bytes.data(), bytes.size());
}

SecretBytes hash_kdf(KdfHash hash, bool counter_first, const SecretBytes& z, ByteView info,
                     std::size_t size) {
  auto h = Botan::HashFunction::create_or_throw(hash_name(hash));
  SecretBytes out;
  out.reserve(size + h->output_length());
  for (std::uint32_t counter = 1; out.size() < size; ++counter) {
    if (counter_first) update_counter(*h, counter);
    h->update(z.data(), z.size());
    if (!counter_first) update_counter(*h, counter);
    h->update(info.data(), info.size());
    const SecretBytes block = h->final();
    out.insert(out.end(), block.begin(), block.end());
  }
  out.resize(size);
  return out;
}

constexpr std::uint8_t kWrapByte = 0xA6;  // RFC 3394 §2.2.3.1: the initial value is eight of these

// The step counter t, XORed into the register A (block bytes 0 to 7).
void add_step(std::uint8_t* a, std::size_t t) {
  for (int i = 7; i >= 0; --i, t >>= 8U) a[i] ^= static_cast<std::uint8_t>(t);
}

}  // namespace

Sealed gcm_seal(const SecretBytes& key, ByteView aad, const SecretBytes& plaintext) {
  Sealed out;
  out.iv = random_bytes(kGcmIv);
  SecretBytes text;
  text.reserve(plaintext.size() + kGcmTag);  // finish() appends the tag; no copy is left behind
  text.assign(plaintext.begin(), plaintext.end());
  start_gcm(kEncrypt, key, out.iv, aad)->finish(text);
  const auto tag_at = text.end() - static_cast<std::ptrdiff_t>(kGcmTag);
  out.ciphertext.assign(text.begin(), tag_at);
  out.tag.assign(tag_at, text.end());
  return out;
}

SecretBytes gcm_open(const SecretBytes& key, ByteView iv, ByteView aad, ByteView ciphertext,
                     ByteView tag) {
  SecretBytes text;
  text.reserve(ciphertext.size() + tag.size());
  text.assign(ciphertext.begin(), ciphertext.end());
  text.insert(text.end(), tag.begin(), tag.end());
  try {
    start_gcm(kDecrypt, key, iv, aad)->finish(text);
  } catch (const Botan::Invalid_Authentication_Tag&) {
    throw_input_error();
  }
  return text;
}

SecretBytes cbc_open(const SecretBytes& key, ByteView iv, ByteView ciphertext) {
  SecretBytes text(ciphertext.begin(), ciphertext.end());
  auto mode =
      Botan::Cipher_Mode::create_or_throw(aes_name(key.size()) + "/CBC/NoPadding", kDecrypt);
  mode->set_key(key.data(), key.size());
  mode->start(iv.data(), iv.size());
  mode->finish(text);

  const std::uint8_t pad = text.back();
  std::uint8_t bad = zero_mask(pad) | less_mask(kAesBlock, pad);
  for (std::uint32_t i = 0; i < kAesBlock; ++i) {
    const std::uint8_t in_padding = less_mask(i, pad);
    bad |= static_cast<std::uint8_t>(in_padding & (text[text.size() - 1 - i] ^ pad));
  }
  if (bad != 0) throw_input_error();
  text.resize(text.size() - pad);
  return text;
}

SecretBytes concat_kdf(const SecretBytes& z, ByteView info, std::size_t size) {
  return hash_kdf(KdfHash::kSha256, true, z, info, size);
}

SecretBytes x963_kdf(KdfHash hash, const SecretBytes& z, ByteView info, std::size_t size) {
  return hash_kdf(hash, false, z, info, size);
}

Bytes aes_kw_wrap(const SecretBytes& kek, const SecretBytes& key) {
  const auto cipher = start_block(kek);
  const std::size_t n = key.size() / 8;
  SecretBytes out(kKeyWrapExtra + key.size(), kWrapByte);
  std::copy(key.begin(), key.end(), out.begin() + kKeyWrapExtra);
  SecretBytes block(kAesBlock, kWrapByte);
  for (std::size_t step = 0; step < 6 * n; ++step) {
    std::uint8_t* r = &out[8 + 8 * (step % n)];
    std::copy_n(r, 8, &block[8]);
    cipher->encrypt(block.data());
    add_step(block.data(), step + 1);
    std::copy_n(&block[8], 8, r);
  }
  std::copy_n(block.begin(), 8, out.begin());
  return Bytes(out.begin(), out.end());
}

SecretBytes aes_kw_unwrap(const SecretBytes& kek, ByteView wrapped) {
  const auto cipher = start_block(kek);
  SecretBytes key(wrapped.begin() + kKeyWrapExtra, wrapped.end());
  const std::size_t n = key.size() / 8;
  SecretBytes block(kAesBlock);
  std::copy_n(wrapped.begin(), 8, block.begin());
  for (std::size_t step = 6 * n; step > 0; --step) {
    std::uint8_t* r = &key[8 * ((step - 1) % n)];
    add_step(block.data(), step);
    std::copy_n(r, 8, &block[8]);
    cipher->decrypt(block.data());
    std::copy_n(&block[8], 8, r);
  }
  std::uint8_t difference = 0;
  for (std::size_t i = 0; i < 8; ++i) difference |= block[i] ^ kWrapByte;
  const std::uint8_t keep = zero_mask(difference);
  const SecretBytes random = random_secret(key.size());
  for (std::size_t i = 0; i < key.size(); ++i) {
    key[i] = static_cast<std::uint8_t>((key[i] & keep) | (random[i] & ~keep));
  }
  return key;
}

}  // namespace keyagent::envelope
