// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/ssh_wire.h"

#include <algorithm>
#include <limits>
#include <string>

#include "agent/base/error.h"

namespace keyagent::sshagent {
namespace {

[[noreturn]] void malformed(const char* why) {
  throw Error(Code::kUsage, std::string("not a message of the ssh-agent protocol: ") + why);
}

ByteView without_zeros(ByteView number) {
  while (!number.empty() && number[0] == 0) number = number.subspan(1);
  return number;
}

}  // namespace

ByteView Reader::take(std::size_t count) {
  if (count > rest_.size()) malformed("it ends within a field");
  const ByteView taken = rest_.first(count);
  rest_ = rest_.subspan(count);
  return taken;
}

std::uint8_t Reader::byte() {
  return take(1)[0];
}

bool Reader::boolean() {
  const std::uint8_t value = byte();
  if (value > 1) malformed("a boolean is neither 0 nor 1");
  return value == 1;
}

std::uint32_t Reader::uint32() {
  const ByteView bytes = take(4);
  return static_cast<std::uint32_t>(bytes[0]) << 24U | static_cast<std::uint32_t>(bytes[1]) << 16U |
         static_cast<std::uint32_t>(bytes[2]) << 8U | bytes[3];
}

ByteView Reader::string() {
  return take(uint32());
}

std::string_view Reader::name(std::size_t most) {
  const std::string_view text = as_text(string());
  const auto printable = [](char c) { return c > ' ' && c < '\x7f'; };
  if (text.empty() || text.size() > most || !std::all_of(text.begin(), text.end(), printable))
    malformed("a name is empty, too long or not printable");
  return text;
}

ByteView Reader::positive() {
  const ByteView number = string();
  if (number.empty() || (number[0] & 0x80U) != 0) malformed("a number is not positive");
  if (number[0] != 0) return number;
  if (number.size() == 1 || (number[1] & 0x80U) == 0) malformed("a number has leading zeros");
  return number.subspan(1);
}

void Reader::finish() const {
  if (!rest_.empty()) malformed("trailing data after its last field");
}

Writer& Writer::byte(std::uint8_t value) {
  bytes_.push_back(value);
  return *this;
}

Writer& Writer::uint32(std::uint32_t value) {
  for (const unsigned shift : {24U, 16U, 8U, 0U})
    bytes_.push_back(static_cast<std::uint8_t>(value >> shift));
  return *this;
}

Writer& Writer::string(ByteView bytes) {
  if (bytes.size() > std::numeric_limits<std::uint32_t>::max()) malformed("a string is too long");
  return uint32(static_cast<std::uint32_t>(bytes.size())).raw(bytes);
}

Writer& Writer::raw(ByteView bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

Writer& Writer::mpint(ByteView number) {
  number = without_zeros(number);
  SecretBytes padded;
  if (!number.empty() && (number[0] & 0x80U) != 0) padded.push_back(0);
  padded.insert(padded.end(), number.begin(), number.end());
  return string(padded);
}

}  // namespace keyagent::sshagent
