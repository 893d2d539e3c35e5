// SPDX-License-Identifier: Apache-2.0
// RFC 7638 thumbprints and ECDSA signature encodings: what encoding.h promises about public keys.

#include <fmt/format.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent {

namespace {

struct Free {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
};
using Pkey = std::unique_ptr<EVP_PKEY, Free>;
using BigNum = std::unique_ptr<BIGNUM, Free>;

[[noreturn]] void refuse_key(std::string_view why) {
  ERR_clear_error();
  throw Error(Code::kUsage,
              fmt::format("not a public key that keyagent knows ({}): RSA, P-256, P-384 or Ed25519 "
                          "as DER SubjectPublicKeyInfo is expected",
                          why));
}

Pkey parse_spki(ByteView spki) {
  const unsigned char* at = spki.data();
  Pkey key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (!key || at != spki.data() + spki.size()) refuse_key("malformed");
  return key;
}

// An integer parameter in base64url, left-padded to `width` bytes; 0: as short as possible (RFC
// 7518 §2).
std::string integer(const Pkey& key, const char* name, std::size_t width) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(key.get(), name, &raw) != 1) refuse_key("incomplete");
  const BigNum number(raw);
  const std::size_t size = width != 0 ? width : static_cast<std::size_t>(BN_num_bytes(raw));
  Bytes bytes(size);
  if (BN_bn2binpad(number.get(), bytes.data(), static_cast<int>(size)) < 0) refuse_key("too large");
  return to_base64url(bytes);
}

// RFC 7638 §3.2, RFC 8037 §2: required members only, in lexicographic order, no white space.
std::string canonical_jwk(const Pkey& key) {
  if (EVP_PKEY_get_base_id(key.get()) == EVP_PKEY_RSA) {
    return fmt::format(R"({{"e":"{}","kty":"RSA","n":"{}"}})",
                       integer(key, OSSL_PKEY_PARAM_RSA_E, 0),
                       integer(key, OSSL_PKEY_PARAM_RSA_N, 0));
  }
  if (EVP_PKEY_get_base_id(key.get()) == EVP_PKEY_ED25519) {
    Bytes x(32);
    std::size_t size = x.size();
    if (EVP_PKEY_get_raw_public_key(key.get(), x.data(), &size) != 1) refuse_key("incomplete");
    return fmt::format(R"({{"crv":"Ed25519","kty":"OKP","x":"{}"}})", to_base64url(x));
  }
  char group[32] = {};
  if (EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(key.get(), group, sizeof group, nullptr) != 1) {
    refuse_key("another type");
  }
  const bool p256 = std::string_view(group) == "prime256v1";
  if (!p256 && std::string_view(group) != "secp384r1") refuse_key("another curve");
  const std::size_t field = p256 ? 32 : 48;
  return fmt::format(R"({{"crv":"{}","kty":"EC","x":"{}","y":"{}"}})", p256 ? "P-256" : "P-384",
                     integer(key, OSSL_PKEY_PARAM_EC_PUB_X, field),
                     integer(key, OSSL_PKEY_PARAM_EC_PUB_Y, field));
}

constexpr std::uint8_t kSequence = 0x30;
constexpr std::uint8_t kInteger = 0x02;

void append_integer(Bytes& out, ByteView number) {
  while (number.size() > 1 && number[0] == 0) number = number.subspan(1);
  const bool pad = (number[0] & 0x80U) != 0;
  out.push_back(kInteger);
  out.push_back(static_cast<std::uint8_t>(number.size() + (pad ? 1 : 0)));
  if (pad) out.push_back(0);
  out.insert(out.end(), number.begin(), number.end());
}

[[noreturn]] void refuse_signature() {
  throw Error(Code::kInput, "not an ECDSA signature in DER (RFC 3279 §2.2.3)");
}

// Takes one positive INTEGER off the front of `der` and writes it right-aligned to `field` bytes.
void take_integer(ByteView& der, std::uint8_t* out, std::size_t field) {
  if (der.size() < 3 || der[0] != kInteger || der[1] == 0 || der[1] > der.size() - 2) {
    refuse_signature();
  }
  ByteView number = der.subspan(2, der[1]);
  der = der.subspan(2 + number.size());
  if ((number[0] & 0x80U) != 0) refuse_signature();  // negative
  if (number[0] == 0) {
    if (number.size() == 1 || (number[1] & 0x80U) == 0) refuse_signature();  // zero, or padded
    number = number.subspan(1);
  }
  if (number.size() > field) refuse_signature();
  std::copy(number.begin(), number.end(), out + field - number.size());
}

}  // namespace

std::string jwk_thumbprint(ByteView spki) {
  return to_base64url(sha256(as_bytes(canonical_jwk(parse_spki(spki)))));
}

Bytes ecdsa_to_der(ByteView rs) {
  if (rs.size() != 64 && rs.size() != 96) {
    throw Error(Code::kUsage, "an ECDSA signature r||s has 64 or 96 bytes");
  }
  Bytes body;
  append_integer(body, rs.first(rs.size() / 2));
  append_integer(body, rs.last(rs.size() / 2));
  Bytes der;
  der.reserve(2 + body.size());
  der.push_back(kSequence);
  der.push_back(static_cast<std::uint8_t>(body.size()));  // at most 102: the short form
  der.insert(der.end(), body.begin(), body.end());
  return der;
}

Bytes ecdsa_from_der(ByteView der, std::size_t field) {
  if (der.size() < 2 || der[0] != kSequence || der[1] >= 0x80 || der[1] != der.size() - 2) {
    refuse_signature();
  }
  ByteView body = der.subspan(2);
  Bytes rs(2 * field);
  take_integer(body, rs.data(), field);
  take_integer(body, rs.data() + field, field);
  if (!body.empty()) refuse_signature();
  return rs;
}

}  // namespace keyagent
