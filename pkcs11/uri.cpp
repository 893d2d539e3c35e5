// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/uri.h"

#include <p11-kit/pkcs11.h>
#include <p11-kit/uri.h>

#include <algorithm>
#include <memory>
#include <set>

#include "pkcs11/error.h"
#include "pkcs11/slot.h"

namespace keyagent::pkcs11 {
namespace {

constexpr std::size_t kLargest = 4096;
using Parsed = std::unique_ptr<P11KitUri, decltype(&p11_kit_uri_free)>;

[[noreturn]] void fail(const std::string& text) {
  throw Error(Error::Kind::kProfile, "pkcs11 URI: " + text);
}

// p11-kit marks an attribute that the URI did not name with 0xFF bytes.
template <std::size_t size>
std::optional<std::string> field(const CK_UTF8CHAR (&bytes)[size]) {
  if (bytes[0] == 0xFF || bytes[0] == 0) return std::nullopt;
  return padded_text(bytes);
}

std::optional<Bytes> attribute(P11KitUri* uri, CK_ATTRIBUTE_TYPE type) {
  const CK_ATTRIBUTE* found = p11_kit_uri_get_attribute(uri, type);
  if (found == nullptr || found->pValue == nullptr) return std::nullopt;
  const auto* bytes = static_cast<const std::uint8_t*>(found->pValue);
  return Bytes(bytes, bytes + found->ulValueLen);
}

std::optional<std::string> type_of(P11KitUri* uri) {
  const auto bytes = attribute(uri, CKA_CLASS);
  if (!bytes || bytes->size() != sizeof(CK_OBJECT_CLASS)) return std::nullopt;
  switch (*reinterpret_cast<const CK_OBJECT_CLASS*>(bytes->data())) {
    case CKO_PRIVATE_KEY:
      return "private";
    case CKO_PUBLIC_KEY:
      return "public";
    case CKO_CERTIFICATE:
      return "cert";
    case CKO_SECRET_KEY:
      return "secret-key";
    default:
      return "data";
  }
}

// RFC 7512 §2.3: unreserved characters stand for themselves.
std::string percent(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

// RFC 7512 §2.3: an attribute stands once; p11-kit takes the last one.
void require_unique(std::string_view text) {
  std::set<std::string> seen;
  auto colon = text.find(':');
  text.remove_prefix(colon == text.npos ? text.size() : colon + 1);
  while (!text.empty()) {
    const auto end = std::min(text.find_first_of(";?&"), text.size());
    const auto part = text.substr(0, end);
    const std::string name(part.substr(0, part.find('=')));
    if (!name.empty() && !seen.insert(name).second)
      fail("'" + name + "' appears twice: it does not name a single key");
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace

Uri parse_uri(std::string_view text) {
  if (text.size() > kLargest) fail("longer than 4 KiB");
  if (text.find('\0') != std::string_view::npos) fail("it contains a NUL byte");
  require_unique(text);
  const Parsed parsed(p11_kit_uri_new(), p11_kit_uri_free);
  const int rc = p11_kit_uri_parse(std::string(text).c_str(), P11_KIT_URI_FOR_ANY, parsed.get());
  if (rc != P11_KIT_URI_OK)
    fail(std::string(p11_kit_uri_message(rc)) + " in '" +
         std::string(text.substr(0, text.find('?'))) + "'");
  if (p11_kit_uri_get_pin_value(parsed.get()) != nullptr) {
    fail(
        "'pin-value' is refused: a PIN in a URI ends up in logs and process lists; use "
        "pin-source=file:/path or 'pin:' in the configuration");
  }
  if (p11_kit_uri_get_slot_id(parsed.get()) != static_cast<CK_SLOT_ID>(-1)) {
    fail("'slot-id' is refused: slot numbers change; name the token by 'token' and 'serial'");
  }
  if (p11_kit_uri_any_unrecognized(parsed.get()) != 0)
    fail("it has an attribute that RFC 7512 does not define");
  const CK_TOKEN_INFO* info = p11_kit_uri_get_token_info(parsed.get());
  Uri uri;
  uri.token = field(info->label);
  uri.serial = field(info->serialNumber);
  uri.manufacturer = field(info->manufacturerID);
  uri.model = field(info->model);
  if (const auto label = attribute(parsed.get(), CKA_LABEL))
    uri.object = std::string(label->begin(), label->end());
  uri.id = attribute(parsed.get(), CKA_ID);
  uri.type = type_of(parsed.get());
  if (const char* source = p11_kit_uri_get_pin_source(parsed.get())) {
    uri.pin_source = source;
    if (uri.pin_source->rfind("file:/", 0) != 0) fail("'pin-source' must be file:/absolute/path");
  }
  if (const char* path = p11_kit_uri_get_module_path(parsed.get())) uri.module_path = path;
  return uri;
}

std::string format_uri(const Uri& uri) {
  std::string out;
  const auto add = [&](const char* name, const std::optional<std::string>& value) {
    if (value) out += (out.empty() ? "" : ";") + std::string(name) + "=" + percent(*value);
  };
  add("token", uri.token);
  add("serial", uri.serial);
  add("manufacturer", uri.manufacturer);
  add("model", uri.model);
  add("object", uri.object);
  add("type", uri.type);
  if (uri.id) add("id", std::string(uri.id->begin(), uri.id->end()));
  if (uri.pin_source) out += "?pin-source=" + *uri.pin_source;
  return "pkcs11:" + out;
}

}  // namespace keyagent::pkcs11
