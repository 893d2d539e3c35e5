// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/subject.h"

#include <openssl/err.h>

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::pki {
namespace {

[[noreturn]] void refuse(const std::string& text) {
  ERR_clear_error();
  throw Error(Code::kUsage, text);
}

std::string quoted(const std::string& text) {
  return "'" + escape_controls(text.substr(0, 200)) + "'";
}

bool has_control(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// `joined`: a part of the name before it, not its own name.
void add_field(X509_NAME* name, const std::string& field, bool joined) {
  const auto equals = field.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == field.size())
    refuse(quoted(field) + " in the subject is not FIELD=VALUE" +
           (joined ? ": '+' joins two fields, write \\+ for a plus sign in a value"
                   : ": '/' begins a field, write \\/ for a slash in a value"));
  const std::string type = field.substr(0, equals), value = field.substr(equals + 1);
  if (has_control(field))
    refuse(quoted(field) +
           " in the subject contains a control character (Windows line ending?); remove it");
  if (OBJ_txt2nid(type.c_str()) == NID_undef)
    refuse("the subject has no field " + quoted(type) +
           ": C, ST, L, O, OU, CN, DC, UID, emailAddress");
  if (X509_NAME_add_entry_by_txt(name, type.c_str(), MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(value.data()),
                                 static_cast<int>(value.size()), -1, joined ? -1 : 0) != 1)
    refuse(quoted(value) + " is not usable as " + type +
           (type == "C" ? ": two letters" : ": too long, or not UTF-8"));
}

}  // namespace

void add_subject(X509_NAME* name, const std::string& subject) {
  if (subject.empty() || subject == "/") return;
  if (subject[0] != '/')
    refuse("the subject must begin with '/': /C=DE/O=Example/CN=www.example.org");
  std::string field;
  bool joined = false;
  for (std::size_t i = 1; i <= subject.size(); ++i) {
    if (i == subject.size() || subject[i] == '/' || subject[i] == '+') {
      add_field(name, field, joined);
      field.clear();
      joined = i < subject.size() && subject[i] == '+';
    } else {
      if (subject[i] == '\\' && i + 1 < subject.size()) ++i;
      field += subject[i];
    }
  }
}

}  // namespace keyagent::pki
