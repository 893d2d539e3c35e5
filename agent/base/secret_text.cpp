// SPDX-License-Identifier: Apache-2.0
#include "agent/base/secret_text.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>

#include "agent/base/disk.h"
#include "agent/base/error.h"

namespace keyagent {
namespace {

constexpr std::size_t kMaxLine = 4096;

bool starts_with(const SecretBytes& text, std::initializer_list<std::uint8_t> mark) {
  return text.size() >= mark.size() && std::equal(mark.begin(), mark.end(), text.begin());
}

// Returns a constant that describes the problem, never the secret; empty: the text is valid.
const char* fault_of(const SecretBytes& text) {
  const auto has = [&](auto test) { return std::any_of(text.begin(), text.end(), test); };
  const auto blank = [](std::uint8_t byte) { return byte == ' ' || byte == '\t'; };
  if (text.empty()) return "is empty; write it into one line";
  if (starts_with(text, {0xef, 0xbb, 0xbf}))
    return "begins with a byte order mark (BOM); save the file without it (printf '%s' …)";
  if (starts_with(text, {0xff, 0xfe}) || starts_with(text, {0xfe, 0xff}) ||
      has([](auto byte) { return byte == 0; }))
    return "is in UTF-16 or holds NUL bytes; save the file as UTF-8 without a byte order mark";
  if (has([](auto byte) { return byte == '\n'; }))
    return "has more than one line end or more than one line; write it into one line";
  if (has([](auto byte) { return byte == '\r'; }))
    return "contains a carriage return; write one line";
  if (blank(text.front()) || blank(text.back()))
    return "begins or ends with white space; remove it";
  if (has([](auto byte) { return byte < 0x20 || byte == 0x7f; }))
    return "contains a control character; write plain text";
  return nullptr;
}

}  // namespace

SecretBytes secret_text(SecretBytes text, const std::string& what) {
  if (!text.empty() && text.back() == '\n') {
    text.pop_back();
    if (!text.empty() && text.back() == '\r') text.pop_back();
  }
  if (const char* fault = fault_of(text)) throw Error(Code::kConfiguration, what + " " + fault);
  return text;
}

SecretBytes read_secret_text(const std::filesystem::path& path, const std::string& what,
                             std::size_t limit) {
  return secret_text(read_secret_file(path, limit), what + " in " + path.string());
}

SecretBytes read_secret_line(int fd, const std::string& what) {
  SecretBytes line;
  for (std::uint8_t byte = 0; line.empty() || line.back() != '\n';) {
    const ssize_t count = ::read(fd, &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (line.size() == kMaxLine)
      throw Error(Code::kConfiguration, what + " is longer than 4096 bytes");
    line.push_back(byte);
  }
  return secret_text(std::move(line), what);
}

}  // namespace keyagent
