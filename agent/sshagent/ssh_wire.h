// SPDX-License-Identifier: Apache-2.0
#pragma once
// The data types of SSH (RFC 4251 section 5), read strictly and written.

#include <cstdint>
#include <string_view>
#include <utility>

#include "agent/base/bytes.h"

namespace keyagent::sshagent {

// Takes fields off the front of a message. Not thread-safe; the views that it gives live as long as
// the message. Every method throws Error{kUsage} when the field is truncated.
class Reader {
 public:
  explicit Reader(ByteView message) : rest_(message) {}

  std::uint8_t byte();
  // 0 or 1; another number is an error, although RFC 4251 reads it as true: one text for one value.
  bool boolean();
  std::uint32_t uint32();
  ByteView string();
  // Text without control characters or bytes over 126, at most `most` long.
  std::string_view name(std::size_t most = 64);
  // A positive mpint in its only form (no needless zero in front), without its sign byte.
  ByteView positive();
  bool at_end() const { return rest_.empty(); }
  // Throws Error{kUsage} when something is left.
  void finish() const;

 private:
  ByteView take(std::size_t count);

  ByteView rest_;
};

// Builds a message, wiped with it. Throws Error{kUsage} for a string over 4 GiB.
class Writer {
 public:
  Writer& byte(std::uint8_t value);
  Writer& uint32(std::uint32_t value);
  Writer& string(ByteView bytes);
  Writer& string(std::string_view text) { return string(as_bytes(text)); }
  // As it is, without a length.
  Writer& raw(ByteView bytes);
  // `number`: big-endian and unsigned, with any count of zeros in front.
  Writer& mpint(ByteView number);
  std::size_t size() const { return bytes_.size(); }
  const SecretBytes& bytes() const { return bytes_; }
  SecretBytes take() { return std::move(bytes_); }

 private:
  SecretBytes bytes_;
};

}  // namespace keyagent::sshagent
