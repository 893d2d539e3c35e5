// SPDX-License-Identifier: Apache-2.0
#include "agent/base/encoding.h"

#include <botan/base64.h>
#include <botan/hash.h>
#include <botan/hex.h>
#include <botan/system_rng.h>
#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "agent/base/error.h"

namespace keyagent {

namespace {

// 0xFF where a == b, else 0, without a branch: base64url carries secrets too (the `k` of a JWK).
std::uint8_t mask_equal(std::uint8_t a, std::uint8_t b) {
  const auto difference = static_cast<std::uint32_t>(a ^ b);
  return static_cast<std::uint8_t>((difference - 1U) >> 24U);
}

char translate(char c, char from1, char to1, char from2, char to2) {
  const auto byte = static_cast<std::uint8_t>(c);
  const std::uint8_t is1 = mask_equal(byte, static_cast<std::uint8_t>(from1));
  const std::uint8_t is2 = mask_equal(byte, static_cast<std::uint8_t>(from2));
  return static_cast<char>((is1 & static_cast<std::uint8_t>(to1)) |
                           (is2 & static_cast<std::uint8_t>(to2)) |
                           (static_cast<std::uint8_t>(~(is1 | is2)) & byte));
}

// The code point at the start of `text` and its length in bytes; nullopt for what is not UTF-8 (RFC
// 3629 §4).
struct CodePoint {
  std::uint32_t value;
  std::size_t size;
};
std::optional<CodePoint> decode_utf8(std::string_view text) {
  const auto lead = static_cast<std::uint8_t>(text[0]);
  if (lead < 0x80) return CodePoint{lead, 1};
  const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return std::nullopt;
  std::uint32_t value = lead & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    const auto next = static_cast<std::uint8_t>(text[i]);
    if ((next & 0xC0U) != 0x80) return std::nullopt;
    value = (value << 6U) | (next & 0x3FU);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kLeast[size] || value > 0x10FFFF || surrogate) return std::nullopt;
  return CodePoint{value, size};
}

// Characters that move the cursor, hide or reorder text: C0, DEL, C1, zero-width, line separators,
// bidirectional controls.
bool is_deceiving(std::uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || (c >= 0x200B && c <= 0x200F) ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x2069) || c == 0xFEFF;
}

void append_escaped(std::string& out, std::string_view text, bool json) {
  while (!text.empty()) {
    const auto point = decode_utf8(text);
    const std::size_t size = point ? point->size : 1;
    const std::uint32_t value = point ? point->value : static_cast<std::uint8_t>(text[0]);
    if (!point || is_deceiving(value)) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", value);
    } else {
      if (json && (value == '"' || value == '\\')) out += '\\';
      out += text.substr(0, size);
    }
    text.remove_prefix(size);
  }
}

}  // namespace

std::string to_hex(ByteView bytes) {
  return Botan::hex_encode(bytes.data(), bytes.size(), /*uppercase=*/false);
}

std::optional<Bytes> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  try {
    Bytes bytes(text.size() / 2);
    const std::size_t size =
        Botan::hex_decode(bytes.data(), text.data(), text.size(), /*ignore_ws=*/false);
    return size == bytes.size() ? std::optional(std::move(bytes)) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::string to_base64url(ByteView bytes) {
  std::string text = Botan::base64_encode(bytes.data(), bytes.size());
  while (!text.empty() && text.back() == '=') text.pop_back();
  for (char& c : text) c = translate(c, '+', '-', '/', '_');
  return text;
}

std::optional<Bytes> from_base64url(std::string_view text) {
  if (text.size() % 4 == 1) return std::nullopt;
  std::string plain(text);
  std::uint8_t foreign = 0;
  for (char& c : plain) {
    for (const char other : {'+', '/', '='}) {
      foreign |= mask_equal(static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(other));
    }
    c = translate(c, '-', '+', '_', '/');
  }
  if (foreign != 0) return std::nullopt;
  plain.append((4 - plain.size() % 4) % 4, '=');
  try {
    Bytes bytes(plain.size() / 4 * 3);
    bytes.resize(
        Botan::base64_decode(bytes.data(), plain.data(), plain.size(), /*ignore_ws=*/false));
    OPENSSL_cleanse(plain.data(), plain.size());
    // One text for one value: the bits after the last byte must be zero.
    const std::size_t rest = bytes.size() % 3;
    if (rest != 0 &&
        to_base64url(ByteView(bytes).last(rest)) != text.substr(text.size() - rest - 1)) {
      return std::nullopt;
    }
    return bytes;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::string escape_controls(std::string_view text) {
  std::string out;
  append_escaped(out, text, /*json=*/false);
  return out;
}

bool is_plain_text(std::string_view text) {
  return escape_controls(text) == text;
}

std::string shorten(std::string_view text, std::size_t max) {
  if (text.size() <= max) return std::string(text);
  std::size_t end = max;
  while (end > 0 && max - end < 4 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80) --end;
  return std::string(text.substr(0, end)) + "… [" + std::to_string(text.size() - end) +
         " bytes cut]";
}

std::string shorten_escaped(std::string_view text, std::size_t max) {
  constexpr std::size_t kMark = 48;   // "… [18446744073709551615 bytes cut]"
  constexpr std::size_t kWidest = 6;  // one byte as \u00xx
  const auto escaped_size = [](std::string_view part) {
    std::string out;
    append_json_string(out, part);
    return out.size() - 2;
  };
  if (text.size() <= max && escaped_size(text) <= max) return std::string(text);
  const std::size_t room = max > kMark ? max - kMark : 0;
  std::size_t keep = std::min(text.size(), room);
  if (escaped_size(text.substr(0, keep)) > room) keep = room / kWidest;
  return shorten(text, keep);
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  append_escaped(out, text, /*json=*/true);
  out += '"';
}

Bytes sha256(ByteView bytes) {
  thread_local const std::unique_ptr<Botan::HashFunction> hash =
      Botan::HashFunction::create_or_throw("SHA-256");
  Bytes digest(32);
  hash->update(bytes.data(), bytes.size());
  hash->final(digest.data());
  return digest;
}

bool equal_secret(ByteView a, ByteView b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Bytes random_bytes(std::size_t count) {
  Bytes bytes(count);
  Botan::system_rng().randomize(bytes.data(), bytes.size());
  return bytes;
}

SecretBytes random_secret(std::size_t count) {
  SecretBytes bytes(count);
  Botan::system_rng().randomize(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace keyagent
