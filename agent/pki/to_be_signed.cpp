// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/to_be_signed.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

namespace keyagent::pki {
namespace {

constexpr std::size_t kPadding = 64;
constexpr std::string_view kServer = "TLS 1.3, server CertificateVerify";
constexpr std::string_view kClient = "TLS 1.3, client CertificateVerify";
constexpr std::size_t kRandoms = 64;

bool is_hash_size(std::size_t size) {
  return size == 32 || size == 48 || size == 64;
}

bool is_tls13(ByteView message) {
  if (message.size() < kPadding) return false;
  const auto padding = message.first(kPadding);
  if (!std::all_of(padding.begin(), padding.end(), [](auto byte) { return byte == 0x20; }))
    return false;
  const auto text = as_text(message.subspan(kPadding));
  for (const auto context : {kServer, kClient}) {
    if (text.starts_with(context) && text.size() > context.size() && text[context.size()] == '\0')
      return is_hash_size(text.size() - context.size() - 1);
  }
  return false;
}

// client_random, server_random, named_curve(3), one of the groups of RFC 8422, the point.
bool is_tls12_server(ByteView message) {
  constexpr std::size_t kHead = 4;
  if (message.size() <= kRandoms + kHead) return false;
  const auto params = message.subspan(kRandoms);
  if (params[0] != 3 || params[1] != 0) return false;
  const std::pair<int, std::size_t> groups[] = {{23, 65}, {24, 97}, {25, 133}, {29, 32}, {30, 56}};
  return std::any_of(std::begin(groups), std::end(groups), [&](const auto& group) {
    return params[2] == group.first && params[3] == group.second &&
           params.size() == kHead + group.second;
  });
}

// Handshake messages (type, 24-bit length, body) that fill the transcript exactly: ClientHello of
// TLS 1.2, ServerHello, and more.
bool is_tls12_client(ByteView message) {
  constexpr std::uint8_t kClientHello = 1, kServerHello = 2, kLastType = 22;
  int count = 0;
  while (!message.empty()) {
    if (message.size() < 4) return false;
    const std::uint8_t type = message[0];
    const std::size_t size =
        std::size_t{message[1]} << 16 | std::size_t{message[2]} << 8 | std::size_t{message[3]};
    if (message.size() - 4 < size || type > kLastType) return false;
    const auto body = message.subspan(4, size);
    if (count == 0 && (type != kClientHello || size < 34 || body[0] != 3 || body[1] != 3))
      return false;
    if (count == 1 && (type != kServerHello || size < 34 || body[0] != 3 || body[1] != 3))
      return false;
    message = message.subspan(4 + size);
    ++count;
  }
  return count >= 3;
}

// The next element of DER with its header; empty when there is none whole.
ByteView next_element(ByteView& from) {
  const unsigned char* at = from.data();
  long size = 0;
  int tag = 0, tag_class = 0;
  const int form = ASN1_get_object(&at, &size, &tag, &tag_class, static_cast<long>(from.size()));
  if ((form & 0x80) != 0 || form == (V_ASN1_CONSTRUCTED | 1)) return {};  // broken, or no length
  const auto whole = static_cast<std::size_t>(at - from.data() + size);
  const ByteView element = from.first(whole);
  from = from.subspan(whole);
  return element;
}

// CertificationRequestInfo: version, subject, this key, attributes.
bool is_request(ByteView message, ByteView spki) {
  const unsigned char* at = message.data();
  const std::unique_ptr<X509_REQ_INFO, decltype(&X509_REQ_INFO_free)> info(
      d2i_X509_REQ_INFO(nullptr, &at, static_cast<long>(message.size())), X509_REQ_INFO_free);
  if (!info || at != message.data() + message.size()) return false;
  const unsigned char* content = message.data();
  long size = 0;
  int tag = 0, tag_class = 0;
  ASN1_get_object(&content, &size, &tag, &tag_class, static_cast<long>(message.size()));
  ByteView fields(content, static_cast<std::size_t>(size));
  next_element(fields);
  next_element(fields);
  const auto key = next_element(fields);
  return std::equal(key.begin(), key.end(), spki.begin(), spki.end());
}

}  // namespace

std::string_view name_of(ToBeSigned kind) {
  switch (kind) {
    case ToBeSigned::kTls13CertificateVerify:
      return "TLS 1.3 handshake";
    case ToBeSigned::kTls12ServerKeyExchange:
      return "TLS 1.2 key exchange";
    case ToBeSigned::kTls12CertificateVerify:
      return "TLS 1.2 handshake";
    case ToBeSigned::kCertificationRequest:
      break;
  }
  return "certification request";
}

bool is_handshake(ToBeSigned kind) {
  return kind == ToBeSigned::kTls13CertificateVerify ||
         kind == ToBeSigned::kTls12ServerKeyExchange || kind == ToBeSigned::kTls12CertificateVerify;
}

std::optional<ToBeSigned> recognize(ByteView message, ByteView spki) {
  if (is_tls13(message)) return ToBeSigned::kTls13CertificateVerify;
  const bool request = is_request(message, spki);
  ERR_clear_error();  // left by the attempt to parse a request
  if (request) return ToBeSigned::kCertificationRequest;
  if (is_tls12_server(message)) return ToBeSigned::kTls12ServerKeyExchange;
  if (is_tls12_client(message)) return ToBeSigned::kTls12CertificateVerify;
  return std::nullopt;
}

}  // namespace keyagent::pki
