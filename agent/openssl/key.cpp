// SPDX-License-Identifier: Apache-2.0
#include "agent/openssl/key.h"

#include <algorithm>

#include "agent/base/error.h"

namespace keyagent::openssl {
namespace {

constexpr std::size_t kEd25519Size = 32;

[[noreturn]] void refuse() {
  throw Error(Code::kPeer, "the agent returned an invalid public key");
}

// One element of DER (X.690 §8.1) off the front.
ByteView take(ByteView& from, std::uint8_t tag) {
  if (from.size() < 2 || from[0] != tag) refuse();
  std::size_t size = from[1], header = 2;
  if (size >= 0x80) {
    const std::size_t count = size & 0x7f;
    if (count == 0 || count > 2 || from.size() < 2 + count) refuse();
    size = 0;
    for (std::size_t i = 0; i < count; ++i) size = size << 8 | from[2 + i];
    header += count;
  }
  if (from.size() < header + size) refuse();
  const ByteView content = from.subspan(header, size);
  from = from.subspan(header + size);
  return content;
}

// The BIT STRING of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
ByteView public_bits(ByteView spki) {
  ByteView whole = take(spki, 0x30);
  take(whole, 0x30);
  const ByteView bits = take(whole, 0x03);
  if (bits.empty() || bits[0] != 0) refuse();
  return bits.subspan(1);
}

Bytes integer(ByteView& from) {
  ByteView value = take(from, 0x02);
  while (value.size() > 1 && value[0] == 0) value = value.subspan(1);
  return {value.begin(), value.end()};
}

}  // namespace

std::optional<Type> type_of(KeyAlgorithm algorithm) {
  if (is_rsa(algorithm)) return Type::kRsa;
  if (ec_field_size(algorithm) > 0) return Type::kEc;
  if (algorithm == KeyAlgorithm::kEd25519) return Type::kEd25519;
  return std::nullopt;
}

const char* name_of(Type type) {
  return type == Type::kRsa ? "RSA" : type == Type::kEc ? "EC" : "ED25519";
}

std::size_t Key::field_size() const {
  return !point.empty() ? point.size() / 2 : group == "secp384r1" ? 48 : 32;
}

int Key::bits() const {
  if (type == Type::kRsa) return static_cast<int>(modulus.size() * 8);
  if (type == Type::kEc) return static_cast<int>(field_size() * 8);
  return 256;
}

int Key::security_bits() const {
  if (type == Type::kRsa) return bits() >= 4096 ? 152 : bits() >= 3072 ? 128 : 112;
  return type == Type::kEc ? bits() / 2 : 128;
}

std::size_t Key::signature_size() const {
  constexpr std::size_t kDerOverhead =
      9;  // of SEQUENCE { INTEGER, INTEGER }, both with a sign byte
  if (type == Type::kRsa) return modulus.size();
  return type == Type::kEc ? 2 * field_size() + kDerOverhead : 64;
}

bool Key::same_public(const Key& other) const {
  return type == other.type && modulus == other.modulus && exponent == other.exponent &&
         point == other.point;
}

Key make_key(const PublicKeyInfo& info, std::shared_ptr<Backend> backend) {
  const auto type = type_of(info.algorithm);
  if (!type)
    throw Error(Code::kUnsupported, "key " + info.name + " is secret and has no public key",
                info.kid.text());
  Key key;
  key.type = *type;
  ByteView bits = public_bits(info.spki);
  if (*type == Type::kRsa) {
    ByteView numbers = take(bits, 0x30);
    key.modulus = integer(numbers);
    key.exponent = integer(numbers);
  } else {
    key.point.assign(bits.begin(), bits.end());
    const std::size_t field = ec_field_size(info.algorithm);
    if (key.point.size() != (*type == Type::kEc ? 2 * field + 1 : kEd25519Size)) refuse();
    if (*type == Type::kEc) key.group = field == 32 ? "prime256v1" : "secp384r1";
  }
  key.info = info;
  key.backend = std::move(backend);
  return key;
}

}  // namespace keyagent::openssl
