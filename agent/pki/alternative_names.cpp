// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/alternative_names.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::pki {
namespace {

constexpr std::size_t kMaxHost = 253, kMaxLabel = 63, kMaxOther = 2048;

bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_alnum(char c) {
  return is_alpha(c) || is_digit(c);
}
bool is_one_of(char c, std::string_view set) {
  return set.find(c) != set.npos;
}
template <class Test>
bool all_of(std::string_view text, Test test) {
  return std::all_of(text.begin(), text.end(), test);
}

// RFC 1123 §2.1. '_' is not a host name's, but service names have it and authorities issue it.
bool is_label(std::string_view label) {
  return !label.empty() && label.size() <= kMaxLabel && label.front() != '-' &&
         label.back() != '-' &&
         all_of(label, [](char c) { return is_alnum(c) || c == '-' || c == '_'; });
}

std::string_view last_label(std::string_view host) {
  return host.substr(host.rfind('.') + 1);
}

// Empty: it is a host name.
const char* fault_of_host(std::string_view host) {
  if (host.empty()) return "the name is empty";
  if (!all_of(host, [](char c) { return (c & 0x80) == 0; }))
    return "a host name must be ASCII; write other letters as A-labels (xn--…, idn2 NAME)";
  if (host.size() > kMaxHost) return "a host name may have at most 253 characters";
  std::string_view rest = host;
  for (;;) {
    const auto dot = rest.find('.');
    if (!is_label(rest.substr(0, dot)))
      return "a host name must be labels of letters, digits and '-', separated by dots";
    if (dot == rest.npos) break;
    rest.remove_prefix(dot + 1);
  }
  if (all_of(last_label(host), is_digit)) return "this is an address; prefix it with IP:";
  return nullptr;
}

// A certificate's wildcard is the whole first label (RFC 6125 §6.4.3).
const char* fault_of_dns(std::string_view host) {
  return fault_of_host(host.starts_with("*.") ? host.substr(2) : host);
}

const char* fault_of_email(std::string_view text) {
  const auto at = text.find('@');
  if (at == text.npos || at == 0 || at > 64) return "an email address must be LOCAL@HOST";
  const auto local = text.substr(0, at);
  const bool atoms = local.front() != '.' && local.back() != '.' && all_of(local, [](char c) {
                       return is_alnum(c) || is_one_of(c, "!#$%&'*+-/=?^_`{|}~.");
                     });
  if (!atoms || local.find("..") != local.npos)
    return "an email address must be LOCAL@HOST, in ASCII";
  return fault_of_host(text.substr(at + 1));
}

// RFC 3986: scheme, and the characters that may stand in a URI at all.
const char* fault_of_uri(std::string_view text) {
  const auto colon = text.find(':');
  const auto scheme = text.substr(0, colon);
  const bool named = colon != text.npos && !scheme.empty() && is_alpha(scheme.front()) &&
                     all_of(scheme, [](char c) { return is_alnum(c) || is_one_of(c, "+-."); });
  if (!named || colon + 1 == text.size())
    return "a URI must begin with its scheme, such as https://…";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        std::isxdigit(static_cast<unsigned char>(text[i + 1])) != 0 &&
                        std::isxdigit(static_cast<unsigned char>(text[i + 2])) != 0;
    if (!escape && !is_alnum(text[i]) && !is_one_of(text[i], "-._~:/?#[]@!$&'()*+,;="))
      return "a URI must not contain blanks or non-ASCII characters; write them as %XX";
  }
  if (!text.substr(colon + 1).starts_with("//")) return nullptr;
  const auto authority = text.substr(colon + 3, text.find_first_of("/?#", colon + 3) - colon - 3);
  return authority.empty() ? "a URI with '//' must name a host" : nullptr;
}

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(Code::kUsage, "'" + escape_controls(name.substr(0, 300)) +
                                "' is not a usable alternative name: " + why);
}

ASN1_STRING* string_of(std::string_view text) {
  ASN1_STRING* out = ASN1_IA5STRING_new();
  ASN1_STRING_set(out, text.data(), static_cast<int>(text.size()));
  return out;
}

ASN1_STRING* address_of(const std::string& name, std::string_view text) {
  std::array<unsigned char, 16> bytes{};
  const std::string terminated(text);
  int size = 0;
  if (::inet_pton(AF_INET, terminated.c_str(), bytes.data()) == 1) size = 4;
  if (size == 0 && ::inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1) size = 16;
  if (size == 0 || terminated.find('\0') != std::string::npos)
    refuse(name, "an address must be like 192.0.2.1 or 2001:db8::1");
  ASN1_STRING* out = ASN1_OCTET_STRING_new();
  ASN1_STRING_set(out, bytes.data(), size);
  return out;
}

struct Kind {
  std::string_view prefix;
  int type;
  const char* (*fault)(std::string_view);
};
constexpr Kind kKinds[] = {{"DNS:", GEN_DNS, fault_of_dns},
                           {"email:", GEN_EMAIL, fault_of_email},
                           {"URI:", GEN_URI, fault_of_uri},
                           {"IP:", GEN_IPADD, nullptr}};

GENERAL_NAME* general_name(const std::string& name) {
  for (const auto& kind : kKinds) {
    if (!name.starts_with(kind.prefix)) continue;
    const auto value = std::string_view(name).substr(kind.prefix.size());
    if (value.size() > kMaxOther) refuse(name, "it is longer than 2048 bytes");
    if (kind.fault != nullptr) {
      if (const char* fault = kind.fault(value)) refuse(name, fault);
    }
    ASN1_STRING* bytes = kind.type == GEN_IPADD ? address_of(name, value) : string_of(value);
    GENERAL_NAME* made = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(made, kind.type, bytes);
    return made;
  }
  refuse(name, "use DNS:, IP:, email: or URI: followed by the name");
}

}  // namespace

GeneralNames general_names(const std::vector<std::string>& names) {
  if (names.size() > kMaxAlternativeNames)
    throw Error(Code::kUsage, "more than 100 alternative names");
  GeneralNames all(GENERAL_NAMES_new());
  for (const auto& name : names) sk_GENERAL_NAME_push(all.get(), general_name(name));
  return all;
}

}  // namespace keyagent::pki
