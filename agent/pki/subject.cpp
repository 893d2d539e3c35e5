#include "agent/pki/subject.h"

#include <openssl/err.h>

#include "agent/base/error.h"

namespace keyagent::pki {
namespace {

[[noreturn]] void refuse(const std::string& text) {
  ERR_clear_error();
  throw Error(Code::kUsage, text);
}

void add_field(X509_NAME* name, const std::string& field) {
  const auto equals = field.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == field.size())
    refuse("'" + field + "' in the subject is not FIELD=VALUE");
  const std::string type = field.substr(0, equals), value = field.substr(equals + 1);
  if (OBJ_txt2nid(type.c_str()) == NID_undef)
    refuse("the subject has no field '" + type + "': C, ST, L, O, OU, CN, emailAddress");
  if (X509_NAME_add_entry_by_txt(name, type.c_str(), MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(value.data()),
                                 static_cast<int>(value.size()), -1, 0) != 1)
    refuse("'" + value + "' is no " + type + (type == "C" ? ": two letters" : " (too long?)"));
}

}  // namespace

void add_subject(X509_NAME* name, const std::string& subject) {
  if (subject.empty() || subject[0] != '/')
    refuse("the subject begins with '/': /C=DE/O=Example/CN=www.example.org");
  std::string field;
  for (std::size_t i = 1; i <= subject.size(); ++i) {
    if (i == subject.size() || subject[i] == '/') {
      add_field(name, field);
      field.clear();
    } else {
      if (subject[i] == '\\' && i + 1 < subject.size()) ++i;
      field += subject[i];
    }
  }
}

}  // namespace keyagent::pki
