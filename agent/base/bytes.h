// SPDX-License-Identifier: Apache-2.0
#pragma once
// The byte types that every room shares.

#include <botan/secmem.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace keyagent {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

// Bytes that must not outlive their use: wiped on destruction and on reallocation, and kept out of
// swap where the process may lock memory. Same type as pkcs11::SecretBytes. It has no formatter, so
// it cannot reach a log by accident.
using SecretBytes = Botan::secure_vector<std::uint8_t>;

// The bytes of `text`, not copied. The view lives as long as `text`.
inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// `bytes` as text, not copied and not checked for UTF-8.
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace keyagent
