// Files of certificates, as authorities and people hand them over.

#include "agent/pki/certificate_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>

#include "agent/base/encoding.h"
#include "agent/pki/chain.h"
#include "tests/pki/authority.h"

namespace keyagent::pki {
namespace {

using namespace test;
using testing::HasSubstr;

Bytes joined(const std::vector<Bytes>& parts) {
  Bytes out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes pkcs7(const std::vector<Party>& parties) {
  const std::unique_ptr<PKCS7, decltype(&PKCS7_free)> message(PKCS7_new(), PKCS7_free);
  PKCS7_set_type(message.get(), NID_pkcs7_signed);
  PKCS7_content_new(message.get(), NID_pkcs7_data);
  for (const auto& each : parties) PKCS7_add_certificate(message.get(), each.certificate.get());
  unsigned char* der = nullptr;
  const int size = i2d_PKCS7(message.get(), &der);
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

std::string pem_block(const std::string& name, ByteView der) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio(bio.get(), name.c_str(), "", der.data(), static_cast<long>(der.size()));
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

class CertificateFile : public testing::Test {
 protected:
  std::string refusal(const std::string& file) const {
    try {
      read_certificates(as_bytes(file));
    } catch (const ChainError& error) {
      EXPECT_EQ(error.fault(), ChainFault::kUnreadable);
      EXPECT_EQ(error.code(), Code::kUsage);
      return error.what();
    }
    return "read";
  }
  const House house_{};
  const Bytes one_ = house_.leaf().der(), two_ = house_.middle.der();
};

TEST_F(CertificateFile, PemDerAndPkcs7AreRead) {
  const std::vector<Bytes> just_one{one_}, both{one_, two_};
  const std::string pem = "subject=leaf\n" + certificate_pem(one_) + "\r\n" + certificate_pem(two_);
  EXPECT_EQ(read_certificates(as_bytes(pem)), both);
  EXPECT_EQ(read_certificates(as_bytes(pem + pem)), both) << "each once";
  EXPECT_EQ(read_certificates(one_), just_one);
  EXPECT_EQ(read_certificates(joined(both)), both);
  const Bytes message = pkcs7({house_.root, house_.middle});
  const std::vector<Bytes> held{house_.root.der(), two_};
  EXPECT_EQ(read_certificates(message), held);
  EXPECT_EQ(read_certificates(as_bytes(pem_block("PKCS7", message))), held);
  EXPECT_EQ(read_certificates(as_bytes(pem_block("X509 CERTIFICATE", one_))), just_one);
  EXPECT_EQ(read_certificates(as_bytes(pem_block("EC PARAMETERS", two_) + certificate_pem(one_))),
            just_one)
      << "what is something else is left out";
}

TEST_F(CertificateFile, WhatIsNoneIsRefused) {
  const std::string pem = certificate_pem(one_);
  EXPECT_THAT(refusal(""), HasSubstr("no certificate"));
  EXPECT_THAT(refusal("hello"), HasSubstr("no certificate"));
  EXPECT_THAT(refusal(pem.substr(0, pem.size() / 2)), HasSubstr("spoiled"));
  EXPECT_THAT(refusal(pem + pem.substr(0, pem.size() / 2)), HasSubstr("spoiled"));
  EXPECT_THAT(refusal(std::string(as_text(one_)) + "x"), HasSubstr("no certificate"));
  EXPECT_THAT(refusal(pem_block("CERTIFICATE", joined({one_, {0}}))), HasSubstr("spoiled"));
  EXPECT_THAT(refusal(pem + pem_block("PRIVATE KEY", two_)), HasSubstr("private key"));
  EXPECT_THAT(refusal(pem_block("CERTIFICATE REQUEST", two_)), HasSubstr("request"));
  EXPECT_THAT(refusal(pem_block("PKCS7", one_)), HasSubstr("PKCS#7"));
  EXPECT_THAT(refusal(std::string(as_text(pkcs7({})))), HasSubstr("no certificate"));
  EXPECT_THAT(refusal(std::string(kLargestCertificateFile + 1, 'x')), HasSubstr("larger"));
}

TEST_F(CertificateFile, Fault129_NoFlippedByteIsMoreThanRefused) {
  const Scene scene = house_.scene({house_.leaf(), house_.middle});
  const Bytes file = joined(scene.certificates());
  for (std::size_t at = 0; at < file.size(); ++at) {
    Bytes spoiled = file;
    spoiled[at] ^= 0x21;
    try {
      const auto chain = make_chain(read_certificates(spoiled), scene.rules());
      FAIL() << "byte " << at;
    } catch (const ChainError&) {
      // Said.
    }
  }
}

TEST_F(CertificateFile, MoreThanTheLimitIsRefused) {
  std::string file;
  for (std::size_t i = 0; i <= kMostCertificates; ++i)
    file += certificate_pem(issue({"n", nullptr, kAuthority, house_.key}).der());
  EXPECT_THAT(refusal(file), HasSubstr("more than 32"));
}

TEST_F(CertificateFile, FactsAreThoseOfTheCertificate) {
  Wanted wanted{
      "Gr\xc3\xbc\xc3\x9f"
      "e, O=x",
      &house_.middle, kServer, house_.key};
  wanted.serial = 0xabcd;
  wanted.until = 2'900'000;  // the year 9966
  const auto facts = certificate_facts(issue(wanted).der());
  EXPECT_EQ(facts.subject,
            "CN=Gr\xc3\xbc\xc3\x9f"
            "e\\, O=x");
  EXPECT_EQ(facts.issuer, "CN=middle");
  EXPECT_EQ(facts.serial, "abcd");
  EXPECT_EQ(facts.names, (std::vector<std::string>{"DNS:www.example.org", "IP:192.0.2.1"}));
  EXPECT_EQ(facts.uses, (std::vector<std::string>{"serverAuth", "clientAuth"}));
  EXPECT_EQ(facts.not_before, kNow - std::chrono::hours(24 * 30));
  EXPECT_EQ(rfc3339(facts.not_after).substr(0, 4), "2261");
  EXPECT_EQ(facts.spki, spki_of(house_.key));
}

}  // namespace
}  // namespace keyagent::pki
