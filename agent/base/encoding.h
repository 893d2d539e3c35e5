// SPDX-License-Identifier: Apache-2.0
#pragma once
// Text encodings. Those that carry secrets are done by Botan in constant time.

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/bytes.h"

namespace keyagent {

std::string to_hex(ByteView bytes);                    // lower case
std::optional<Bytes> from_hex(std::string_view text);  // nullopt: odd length or another character
std::string to_base64url(ByteView bytes);              // RFC 7515 §2: no padding
// nullopt for padding, white space, a foreign character, or non-zero trailing bits (one text for
// one value).
std::optional<Bytes> from_base64url(std::string_view text);

// `text` as it may stand in a line for people: control characters, bidirectional overrides and
// bytes that are not UTF-8 become \\uXXXX (a stray byte its own number), the rest stays
// (RELIABILITY 141).
std::string escape_controls(std::string_view text);
// Valid UTF-8 without what escape_controls() would change.
bool is_plain_text(std::string_view text);
// The first at most `max` bytes of `text`, cut between characters, and then "… [N bytes cut]"; the
// whole text when it fits. The mark comes on top of `max`.
std::string shorten(std::string_view text, std::size_t max);
// The same, such that the text takes at most `max` bytes with its mark when it is escaped for a
// line or a JSON string.
std::string shorten_escaped(std::string_view text, std::size_t max);
// Appends `text` as a JSON string with its quotes, escaped as above. The same text always gives the
// same bytes.
void append_json_string(std::string& out, std::string_view text);

// 32 bytes.
Bytes sha256(ByteView bytes);
// Constant time for equal lengths.
bool equal_secret(ByteView a, ByteView b);
// From the kernel (getrandom) through Botan's system RNG.
Bytes random_bytes(std::size_t count);
SecretBytes random_secret(std::size_t count);

// RFC 7638 thumbprint of a DER SubjectPublicKeyInfo: SHA-256 of the canonical JWK, base64url, 43
// characters. Throws Error{kUsage} for a key type other than RSA, P-256, P-384 and Ed25519.
std::string jwk_thumbprint(ByteView spki);

// ECDSA-Sig-Value (RFC 3279 §2.2.3) to and from r‖s of fixed width (RELIABILITY 64). `field` is 32
// or 48.
Bytes ecdsa_to_der(ByteView rs);
// Throws Error{kInput} for anything but canonical DER of two positive integers that fit.
Bytes ecdsa_from_der(ByteView der, std::size_t field);

}  // namespace keyagent
