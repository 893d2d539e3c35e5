// SPDX-License-Identifier: Apache-2.0
#include "agent/openssl/reference.h"

#include <botan/base64.h>

#include <algorithm>

#include "agent/base/error.h"
#include "pkcs11/uri.h"

namespace keyagent::openssl {
namespace {

constexpr std::string_view kScheme = "keyagent:";
constexpr std::string_view kBegin = "-----BEGIN PKCS#11 PROVIDER URI-----";
constexpr std::string_view kEnd = "-----END PKCS#11 PROVIDER URI-----";
constexpr std::string_view kDescription = "PKCS#11 Provider URI v1.0";
constexpr std::uint8_t kSequence = 0x30, kVisibleString = 0x1a, kUtf8String = 0x0c;

void append(Bytes& out, std::uint8_t tag, ByteView content) {
  out.push_back(tag);
  const std::size_t size = content.size();
  if (size >= 0x100) {
    out.push_back(0x82);
    out.push_back(static_cast<std::uint8_t>(size >> 8));
  } else if (size >= 0x80) {
    out.push_back(0x81);
  }
  out.push_back(static_cast<std::uint8_t>(size & 0xff));
  out.insert(out.end(), content.begin(), content.end());
}

// nullopt for what is not a whole element of this tag.
std::optional<ByteView> take(ByteView& from, std::uint8_t tag) {
  if (from.size() < 2 || from[0] != tag) return std::nullopt;
  std::size_t size = from[1], header = 2;
  if (size >= 0x80) {
    const std::size_t count = size & 0x7f;
    if (count == 0 || count > 2 || from.size() < 2 + count) return std::nullopt;
    size = 0;
    for (std::size_t i = 0; i < count; ++i) size = size << 8 | from[2 + i];
    header += count;
  }
  if (from.size() < header + size) return std::nullopt;
  const ByteView content = from.subspan(header, size);
  from = from.subspan(header + size);
  return content;
}

}  // namespace

std::optional<Reference> parse_reference(std::string_view uri) {
  Reference reference;
  if (uri.starts_with(kScheme)) {
    reference.which = uri.substr(kScheme.size());
    if (reference.which.empty()) throw Error(Code::kUsage, "'keyagent:' needs a key name");
    return reference;
  }
  if (!uri.starts_with("pkcs11:")) return std::nullopt;
  try {
    const auto parsed = pkcs11::parse_uri(uri);
    reference.type = parsed.type.value_or("");
    if (parsed.object) {
      reference.which = *parsed.object;
      // The label in the token is keyagent:AGENT:NAME.
      if (reference.which.starts_with(kScheme))
        reference.which = reference.which.substr(reference.which.rfind(':') + 1);
      return reference;
    }
    if (parsed.id) {
      reference.cka_id.assign(parsed.id->begin(), parsed.id->end());
      return reference;
    }
  } catch (const std::exception& error) {
    throw Error(Code::kUsage, std::string("not a pkcs11: URI: ") + error.what());
  }
  throw Error(Code::kUsage, "the pkcs11: URI names no key: it needs object= or id=");
}

std::string reference_uri(const std::string& name) {
  return "pkcs11:object=" + name + ";type=private";
}

Bytes reference_der(const std::string& uri) {
  Bytes inner, der;
  append(inner, kVisibleString, as_bytes(kDescription));
  append(inner, kUtf8String, as_bytes(uri));
  append(der, kSequence, inner);
  return der;
}

std::string reference_pem(const std::string& uri) {
  const Bytes der = reference_der(uri);
  const std::string text = Botan::base64_encode(der.data(), der.size());
  std::string pem = std::string(kBegin) + "\n";
  for (std::size_t at = 0; at < text.size(); at += 64) pem += text.substr(at, 64) + "\n";
  return pem + std::string(kEnd) + "\n";
}

std::optional<std::string> uri_in_der(ByteView der) {
  auto whole = take(der, kSequence);
  if (!whole) return std::nullopt;
  const auto description = take(*whole, kVisibleString);
  if (!description || as_text(*description) != kDescription) return std::nullopt;
  const auto uri = take(*whole, kUtf8String);
  if (!uri) return std::nullopt;
  return std::string(as_text(*uri));
}

std::optional<std::string> uri_in_pem(std::string_view text) {
  const auto begin = text.find(kBegin);
  if (begin == text.npos) return std::nullopt;
  const auto from = begin + kBegin.size(), end = text.find(kEnd, from);
  if (end == text.npos) return std::nullopt;
  try {
    const auto der = Botan::base64_decode(std::string(text.substr(from, end - from)));
    return uri_in_der({der.data(), der.size()});
  } catch (const std::exception&) {
    return std::nullopt;  // not base64
  }
}

}  // namespace keyagent::openssl
