// SPDX-License-Identifier: Apache-2.0
#include "agent/base/pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <memory>

#include "agent/base/error.h"

namespace keyagent {
namespace {

constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr std::string_view kUtf8Mark = "\xef\xbb\xbf";

struct Free {
  void operator()(char* text) const { OPENSSL_free(text); }
  void operator()(unsigned char* bytes) const { OPENSSL_free(bytes); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// Errors of a call that failed as it may are not left for the next caller.
struct QuietErrors {
  QuietErrors() { ERR_set_mark(); }
  ~QuietErrors() { ERR_pop_to_mark(); }
  QuietErrors(const QuietErrors&) = delete;
};

std::string_view trimmed(std::string_view line) {
  // Files that were joined have a byte order mark in the middle.
  if (line.starts_with(kUtf8Mark)) line.remove_prefix(kUtf8Mark.size());
  const auto first = line.find_first_not_of(kBlanks);
  if (first == line.npos) return {};
  return line.substr(first, line.find_last_not_of(kBlanks) - first + 1);
}

template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    if (!visit(trimmed(text.substr(0, end)))) return;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

bool is_utf16(std::string_view text) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) return true;
  // Without a mark: ASCII with a NUL in every second place.
  const auto at = [&](std::size_t i) { return i < text.size() ? text[i] : '\x01'; };
  return (at(0) == '-' && at(1) == 0 && at(2) == '-' && at(3) == 0) ||
         (at(0) == 0 && at(1) == '-' && at(2) == 0 && at(3) == '-');
}

}  // namespace

ByteView without_byte_order_mark(ByteView file) {
  const auto text = as_text(file);
  if (is_utf16(text))
    throw Error(Code::kUsage,
                "the file is text in UTF-16, as PowerShell's '>' writes it; convert it: iconv -f "
                "UTF-16 -t UTF-8 FILE");
  return text.starts_with(kUtf8Mark) ? file.subspan(kUtf8Mark.size()) : file;
}

bool has_pem(ByteView file) {
  bool found = false;
  for_each_line(as_text(without_byte_order_mark(file)), [&](std::string_view line) {
    found = line.starts_with(kBegin);
    return !found;
  });
  return found;
}

std::vector<PemBlock> read_pem(ByteView file) {
  const QuietErrors quiet;
  // OpenSSL's reader takes no indented lines, and has its own rule for the first one.
  SecretBytes text;
  text.reserve(file.size() + 1);
  bool begun = false;
  for_each_line(as_text(without_byte_order_mark(file)), [&](std::string_view line) {
    begun = begun || line.starts_with(kBegin);
    if (!begun) return true;
    text.insert(text.end(), line.begin(), line.end());
    text.push_back('\n');
    return true;
  });
  const Owned<BIO> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::vector<PemBlock> blocks;
  char *name = nullptr, *header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
  while (bio && PEM_read_bio(bio.get(), &name, &header, &data, &size) == 1) {
    const Owned<char> name_held(name), header_held(header);
    const Owned<unsigned char> data_held(data);
    blocks.push_back({name, header, Bytes(data, data + size)});
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
    throw Error(Code::kUsage, "a PEM block of the file is truncated or corrupt");
  return blocks;
}

std::optional<ByteView> whole_der(ByteView file) {
  if (file.size() < 2) return std::nullopt;
  std::size_t size = file[1], header = 2;
  if (size >= 0x80) {
    const std::size_t count = size & 0x7f;
    if (count == 0 || count > 4 || file.size() < 2 + count) return std::nullopt;
    size = 0;
    for (std::size_t i = 0; i < count; ++i) size = size << 8 | file[2 + i];
    header += count;
  }
  if (size > file.size() - header) return std::nullopt;
  const auto rest = as_text(file.subspan(header + size));
  if (rest.find_first_not_of(" \t\r\n") != rest.npos) return std::nullopt;
  return file.first(header + size);
}

}  // namespace keyagent
