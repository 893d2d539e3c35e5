// SPDX-License-Identifier: Apache-2.0
#include "agent/base/ids.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent {

namespace {

constexpr std::size_t kThumbprintChars = 43;  // SHA-256 in base64url
constexpr std::size_t kSecretKidChars = 32;   // 128 bits in hex
constexpr std::size_t kNameChars = 63;

bool is_lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}
bool is_lower_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}
bool is_name_char(char c) {
  return is_lower_alnum(c) || c == '.' || c == '_' || c == '-';
}

bool is_kid(std::string_view text) {
  if (text.size() == kSecretKidChars) return std::all_of(text.begin(), text.end(), is_lower_hex);
  return text.size() == kThumbprintChars && from_base64url(text).has_value();
}

}  // namespace

std::optional<Kid> Kid::parse(std::string_view text) {
  if (!is_kid(text)) return std::nullopt;
  Kid kid;
  kid.text_ = text;
  return kid;
}

Kid::Kid(std::string_view text) {
  if (!is_kid(text)) {
    throw Error(Code::kUsage,
                "not a kid: 43 characters of base64url (a public key's RFC 7638 thumbprint) or 32 "
                "hex digits (a secret key) are expected; `keyagent key list` shows them");
  }
  text_ = text;
}

std::optional<KeyName> KeyName::parse(std::string_view text) {
  if (text.empty() || text.size() > kNameChars || !is_lower_alnum(text.front()) ||
      !std::all_of(text.begin(), text.end(), is_name_char) || is_kid(text)) {
    return std::nullopt;
  }
  KeyName name;
  name.text_ = text;
  return name;
}

KeyName::KeyName(std::string_view text) {
  auto parsed = parse(text);
  if (!parsed) {
    throw Error(Code::kUsage,
                "not a key name: 1 to 63 of a-z 0-9 . _ - are expected, the first a letter or "
                "digit, and not in the form of a kid");
  }
  *this = std::move(*parsed);
}

CkaId CkaId::random() {
  CkaId id;
  const Bytes drawn = random_bytes(id.bytes.size());
  std::copy(drawn.begin(), drawn.end(), id.bytes.begin());
  return id;
}

std::string CkaId::hex() const {
  return to_hex(bytes);
}

CkaId CkaId::from_hex(std::string_view text) {
  CkaId id;
  const auto decoded = keyagent::from_hex(text);
  if (!decoded || decoded->size() != id.bytes.size()) {
    throw Error(Code::kUsage, "not a CKA_ID of keyagent: 32 hex digits are expected");
  }
  std::copy(decoded->begin(), decoded->end(), id.bytes.begin());
  return id;
}

}  // namespace keyagent
