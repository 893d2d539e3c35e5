// SPDX-License-Identifier: Apache-2.0
#include "agent/openssl/signature_encoding.h"

#include <stdexcept>

namespace keyagent::openssl {
namespace {

Bytes wrap(std::uint8_t tag, const Bytes& content) {
  Bytes out{tag};
  if (content.size() >= 0x80) out.push_back(0x81);  // nothing here is longer than 255 bytes
  out.push_back(static_cast<std::uint8_t>(content.size()));
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

Bytes integer(ByteView value) {
  while (value.size() > 1 && value[0] == 0) value = value.subspan(1);
  Bytes number(value.begin(), value.end());
  if ((number[0] & 0x80) != 0) number.insert(number.begin(), 0);
  return wrap(0x02, number);
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

const Bytes kNull{0x05, 0x00};

Bytes hash_identifier(std::uint8_t last) {
  return wrap(0x30,
              joined({wrap(0x06, {0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last}), kNull}));
}

// RFC 4055 §3.1, every field written out: the defaults are SHA-1.
Bytes pss_identifier(std::uint8_t hash, std::uint8_t salt) {
  const Bytes mask =
      wrap(0x30, joined({wrap(0x06, {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08}),
                         hash_identifier(hash)}));
  const Bytes parameters = wrap(0x30, joined({wrap(0xa0, hash_identifier(hash)), wrap(0xa1, mask),
                                              wrap(0xa2, integer(Bytes{salt}))}));
  return wrap(0x30, joined({wrap(0x06, {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a}),
                            parameters}));
}

Bytes rsa_identifier(std::uint8_t last) {
  return wrap(0x30,
              joined({wrap(0x06, {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last}), kNull}));
}

Bytes ecdsa_identifier(std::uint8_t last) {
  return wrap(0x30, wrap(0x06, {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last}));
}

}  // namespace

Bytes ecdsa_der(const Bytes& signature) {
  const std::size_t half = signature.size() / 2;
  const ByteView whole(signature);
  return wrap(0x30, joined({integer(whole.first(half)), integer(whole.subspan(half))}));
}

Bytes algorithm_identifier(SignatureAlgorithm algorithm) {
  switch (algorithm) {
    case SignatureAlgorithm::kRs256:
      return rsa_identifier(0x0b);
    case SignatureAlgorithm::kRs384:
      return rsa_identifier(0x0c);
    case SignatureAlgorithm::kRs512:
      return rsa_identifier(0x0d);
    case SignatureAlgorithm::kPs256:
      return pss_identifier(0x01, 32);
    case SignatureAlgorithm::kPs384:
      return pss_identifier(0x02, 48);
    case SignatureAlgorithm::kPs512:
      return pss_identifier(0x03, 64);
    case SignatureAlgorithm::kEs256:
      return ecdsa_identifier(0x02);
    case SignatureAlgorithm::kEs384:
      return ecdsa_identifier(0x03);
    case SignatureAlgorithm::kEdDsa:
      break;
  }
  return wrap(0x30, wrap(0x06, {0x2b, 0x65, 0x70}));
}

}  // namespace keyagent::openssl
