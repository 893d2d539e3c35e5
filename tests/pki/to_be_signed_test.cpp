// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/to_be_signed.h"

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "tests/pki/key_pair.h"

namespace keyagent::pki {
namespace {

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes text(const std::string& value) {
  return {value.begin(), value.end()};
}

Bytes tls13(const std::string& context, std::size_t hash = 32) {
  return joined({Bytes(64, 0x20), text(context), {0}, random_bytes(hash)});
}

Bytes handshake(std::uint8_t type, const Bytes& body) {
  return joined({{type, 0, static_cast<std::uint8_t>(body.size() >> 8),
                  static_cast<std::uint8_t>(body.size() & 0xff)},
                 body});
}

struct SoftwareKey : test::KeyPair {
  Bytes request() const {
    const std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(X509_REQ_new(),
                                                                      X509_REQ_free);
    X509_REQ_set_pubkey(request.get(), key.get());
    X509_REQ_sign(request.get(), key.get(), EVP_sha256());
    unsigned char* der = nullptr;
    const int size = i2d_re_X509_REQ_tbs(request.get(), &der);
    Bytes out(der, der + size);
    OPENSSL_free(der);
    return out;
  }
};

TEST(ToBeSigned, Fault098_HandshakesAndTheKeysOwnRequestAreRecognized) {
  const SoftwareKey key;
  EXPECT_EQ(recognize(tls13("TLS 1.3, server CertificateVerify"), key.spki()),
            ToBeSigned::kTls13CertificateVerify);
  EXPECT_EQ(recognize(tls13("TLS 1.3, client CertificateVerify", 48), key.spki()),
            ToBeSigned::kTls13CertificateVerify);
  const Bytes exchange = joined({random_bytes(64), {3, 0, 23, 65}, random_bytes(65)});
  EXPECT_EQ(recognize(exchange, key.spki()), ToBeSigned::kTls12ServerKeyExchange);
  const Bytes hello = joined({{3, 3}, random_bytes(40)});
  const Bytes transcript =
      joined({handshake(1, hello), handshake(2, hello), handshake(11, random_bytes(900))});
  EXPECT_EQ(recognize(transcript, key.spki()), ToBeSigned::kTls12CertificateVerify);
  EXPECT_EQ(recognize(key.request(), key.spki()), ToBeSigned::kCertificationRequest);
}

TEST(ToBeSigned, Fault098_NothingElseIs) {
  const SoftwareKey key, other;
  const Bytes hello = joined({{3, 3}, random_bytes(40)});
  const std::pair<const char*, Bytes> wrong[] = {
      {"nothing", {}},
      {"a text", text("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJyb290In0")},
      {"another context", tls13("TLS 1.3, exported thing")},
      {"a context without its end",
       joined({Bytes(64, 0x20), text("TLS 1.3, server CertificateVerify"), random_bytes(33)})},
      {"a hash of no size", tls13("TLS 1.3, server CertificateVerify", 31)},
      {"too little padding",
       joined({Bytes(63, 0x20), text("TLS 1.3, server CertificateVerify"), {0}, random_bytes(32)})},
      {"padding that is not blanks", joined({Bytes(63, 0x20),
                                             {0x21},
                                             text("TLS 1.3, server CertificateVerify"),
                                             {0},
                                             random_bytes(32)})},
      {"another key's request", other.request()},
      {"a request with something after it", joined({key.request(), {0}})},
      {"a point that is cut off", joined({random_bytes(64), {3, 0, 23, 65}, random_bytes(64)})},
      {"explicit curve parameters", joined({random_bytes(64), {1, 0, 23, 65}, random_bytes(65)})},
      {"a transcript without a server", joined({handshake(1, hello), handshake(11, hello)})},
      {"a transcript that is cut off",
       joined({handshake(1, hello), handshake(2, hello), {11, 0, 1, 0}})},
      {"a digest", random_bytes(32)}};
  for (const auto& [name, message] : wrong) EXPECT_FALSE(recognize(message, key.spki())) << name;
}

}  // namespace
}  // namespace keyagent::pki
