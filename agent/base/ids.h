// SPDX-License-Identifier: Apache-2.0
#pragma once
// Strong identifiers: a kid is not a name and a name is not a kid.

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace keyagent {

// The identifier of one key generation: the RFC 7638 SHA-256 thumbprint of its public key in
// base64url without padding (43 characters), or for a secret key 128 random bits in lower-case hex
// (32 characters). Immutable, cheap to copy.
class Kid {
 public:
  Kid() = default;
  // Throws Error{kUsage} unless `text` has one of the two forms.
  explicit Kid(std::string_view text);
  static std::optional<Kid> parse(std::string_view text);
  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }
  auto operator<=>(const Kid&) const = default;

 private:
  std::string text_;
};

// The name that people give a key: [a-z0-9][a-z0-9._-]{0,62}. Never 32 or 43 characters that parse
// as a Kid.
class KeyName {
 public:
  KeyName() = default;
  // Throws Error{kUsage} that quotes the rule.
  explicit KeyName(std::string_view text);
  static std::optional<KeyName> parse(std::string_view text);
  const std::string& text() const { return text_; }
  auto operator<=>(const KeyName&) const = default;

 private:
  std::string text_;
};

// CKA_ID of our objects: 16 random bytes, chosen and journaled before the key is generated.
struct CkaId {
  std::array<std::uint8_t, 16> bytes{};
  static CkaId random();
  // 32 lower-case hex digits.
  std::string hex() const;
  // Throws Error{kUsage} unless `text` is 32 hex digits.
  static CkaId from_hex(std::string_view text);
  auto operator<=>(const CkaId&) const = default;
};

}  // namespace keyagent

template <>
struct std::hash<keyagent::Kid> {
  std::size_t operator()(const keyagent::Kid& kid) const noexcept {
    return std::hash<std::string>{}(kid.text());
  }
};
