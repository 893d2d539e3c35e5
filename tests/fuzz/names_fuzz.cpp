// SPDX-License-Identifier: Apache-2.0
// Names that people and programs give for a certification request: each one is refused, or is one
// name of the request and comes back byte by byte. The first line is the subject, each other one a
// name.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/pki/alternative_names.h"
#include "agent/pki/subject.h"

namespace {

using namespace keyagent;

void read_subject(const std::string& line) {
  const pki::Owned<X509_NAME, X509_NAME_free> name(X509_NAME_new());
  pki::add_subject(name.get(), line);
  for (const char c : pki::name_text(name.get(), 4096)) {
    if (static_cast<unsigned char>(c) < 0x20) std::abort();
  }
}

void read_name(const std::string& line) {
  const auto names = pki::general_names({line});
  if (sk_GENERAL_NAME_num(names.get()) != 1) std::abort();
  int type = 0;
  const auto* value = static_cast<const ASN1_STRING*>(
      GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), 0), &type));
  if (type == GEN_IPADD) return;
  const std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                         static_cast<std::size_t>(ASN1_STRING_length(value)));
  if (line.substr(line.find(':') + 1) != text) std::abort();
  for (const char c : text) {
    if (c <= ' ' || c == 0x7f) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto end = text.find('\x01');  // not a line end: those are of interest in names
  const auto quietly = [](auto read, const std::string& part) {
    try {
      read(part);
    } catch (const Error&) {
      // Refused.
    }
  };
  quietly(read_subject, text.substr(0, end));
  quietly(read_name, end == text.npos ? text : text.substr(end + 1));
  return 0;
}
