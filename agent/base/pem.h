// SPDX-License-Identifier: Apache-2.0
#pragma once
// Files of certificates, keys and envelopes as editors, mail programs and other systems leave them:
// what is around the data is taken away here, once, before anything is parsed.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/bytes.h"

namespace keyagent {

struct PemBlock {
  std::string label;    // "CERTIFICATE"
  std::string headers;  // RFC 1421 header lines ("Proc-Type: …"), or empty
  Bytes content;
};

// The file without a UTF-8 byte order mark. Throws Error{kUsage} for UTF-16, as written by
// PowerShell's ">"; the message explains how to convert it.
ByteView without_byte_order_mark(ByteView file);

// True when a PEM block begins on its own line. Call it only for files that are not DER.
bool has_pem(ByteView file);

// All blocks, in order. Line ends may be LF or CRLF, lines may be indented or end in blanks, and
// anything may stand before, between and behind the blocks. Throws Error{kUsage}: a block is cut or
// corrupt.
std::vector<PemBlock> read_pem(ByteView file);

// The DER value at the beginning of the file, with nothing behind it but white space. nullopt: this
// is not one DER value. The content is not checked.
std::optional<ByteView> whole_der(ByteView file);

}  // namespace keyagent
