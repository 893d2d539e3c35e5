// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which encoding an envelope comes in. Everything that reads one, at the gate and in the command
// line, reads it here.

#include <optional>
#include <string>
#include <string_view>

#include "agent/envelope/envelope.h"

namespace keyagent::envelope {

// Without a byte order mark (UTF-8) and white space around.
std::string_view trimmed(std::string_view text);

struct Container {
  Format format = Format::kJwe;
  bool armored = false;    // CMS as PEM
  Bytes message;           // CMS: BER or DER
  std::string_view token;  // JWE: the compact serialization, a view into what was read
};

// The rule, in this order:
//  1. one whole BER element, and nothing but white space after it: CMS;
//  2. a line that starts with "-----BEGIN ": PEM with one block, CMS or PKCS7; text around it is
//     ignored (RFC 7468 §2);
//  3. anything else is text: one JWE in compact serialization, with white space around.
// A UTF-8 byte order mark before text is ignored. Throws Error{kInput} for anything else, naming
// UTF-16 text; Error{kUnsupported} for S/MIME mail.
Container read_container(ByteView envelope);

// PEM with the label "CMS" (RFC 7468 §9).
Bytes armor_cms(ByteView der);

}  // namespace keyagent::envelope
