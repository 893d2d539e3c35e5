// SPDX-License-Identifier: Apache-2.0
// Files of certificates, as authorities and people hand them over.

#include "agent/pki/certificate_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/pkcs7.h>

#include <algorithm>
#include <sstream>

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
  EXPECT_THAT(refusal(pem.substr(0, pem.size() / 2)), HasSubstr("corrupt"));
  EXPECT_THAT(refusal(pem + pem.substr(0, pem.size() / 2)), HasSubstr("corrupt"));
  EXPECT_THAT(refusal(std::string(as_text(one_)) + "x"), HasSubstr("no certificate"));
  EXPECT_THAT(refusal(pem_block("CERTIFICATE", joined({one_, {0}}))), HasSubstr("corrupt"));
  EXPECT_THAT(refusal(pem + pem_block("PRIVATE KEY", two_)), HasSubstr("private key"));
  EXPECT_THAT(refusal(pem_block("CERTIFICATE REQUEST", two_)), HasSubstr("request"));
  EXPECT_THAT(refusal(pem_block("PKCS7", one_)), HasSubstr("PKCS#7"));
  EXPECT_THAT(refusal(std::string(as_text(pkcs7({})))), HasSubstr("no certificate"));
  EXPECT_THAT(refusal(std::string(kMaxCertificateFile + 1, 'x')), HasSubstr("larger"));
}

// Forms in which people hand certificates over.
std::string each_line(const std::string& text, const std::string& before,
                      const std::string& behind) {
  std::string out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out += before + line + behind + "\n";
  return out;
}

std::string utf16(const std::string& text) {
  std::string out = "\xff\xfe";
  for (const char c : text) out += {c, '\0'};
  return out;
}

TEST_F(CertificateFile, Fault176_TextAroundTheDataIsIgnored) {
  const std::vector<Bytes> both{one_, two_};
  const std::string pem = certificate_pem(one_) + certificate_pem(two_);
  const std::string bags = "Bag Attributes\n    localKeyID: 01\nsubject=CN = leaf\n";
  const std::string der(as_text(joined(both)));
  const Bytes message = pkcs7({house_.leaf(), house_.middle});
  const std::pair<const char*, std::string> kForms[] = {
      {"CRLF", each_line(pem, "", "\r")},
      {"byte order mark", "\xef\xbb\xbf" + pem},
      {"blank lines before", "\n\n" + pem},
      {"trailing blanks", each_line(pem, "", "   ")},
      {"indented, as in YAML", each_line(pem, "    ", "")},
      {"bag attributes", bags + certificate_pem(one_) + bags + certificate_pem(two_)},
      {"text behind", pem + "bye"},
      {"DER and a line feed", der + "\n"},
      {"DER and CRLF", der + "\r\n"},
      {"PKCS#7 in a CERTIFICATE block",
       pem_block("CERTIFICATE", pkcs7({house_.middle})) + certificate_pem(one_)}};
  for (const auto& [name, file] : kForms) {
    const auto read = read_certificates(as_bytes(file));
    EXPECT_THAT(read, testing::UnorderedElementsAreArray(both)) << name;
  }
  EXPECT_EQ(read_certificates(as_bytes(std::string(as_text(message)) + "\n")).size(), 2U)
      << "PKCS#7 in DER and a line feed";
  unsigned char* trusted = nullptr;
  const int size = i2d_X509_AUX(house_.middle.certificate.get(), &trusted);
  EXPECT_EQ(read_certificates(as_bytes(
                pem_block("TRUSTED CERTIFICATE", {trusted, static_cast<std::size_t>(size)}))),
            std::vector<Bytes>{two_});
  OPENSSL_free(trusted);
}

TEST_F(CertificateFile, Fault176_WhatItIsInsteadIsNamed) {
  const std::string pem = certificate_pem(one_);
  EXPECT_THAT(refusal(utf16(pem)), HasSubstr("UTF-16"));
  EXPECT_THAT(refusal(utf16(pem).substr(2)), HasSubstr("UTF-16"));
  const std::unique_ptr<PKCS12, decltype(&PKCS12_free)> store(
      PKCS12_create("x", nullptr, nullptr, house_.middle.certificate.get(), nullptr, 0, 0, 0, 0, 0),
      PKCS12_free);
  unsigned char* der = nullptr;
  const int size = i2d_PKCS12(store.get(), &der);
  EXPECT_THAT(refusal(std::string(reinterpret_cast<char*>(der), static_cast<std::size_t>(size))),
              HasSubstr("openssl pkcs12 -nokeys"));
  OPENSSL_free(der);
}

TEST_F(CertificateFile, Fault176_ATrustBundleHasItsOwnLimits) {
  std::vector<Bytes> authorities;
  std::string bundle;
  for (int i = 0; i < 140; ++i) {
    authorities.push_back(
        issue({"ca " + std::to_string(i), nullptr, kAuthority, house_.key}).der());
    bundle += "# ca\n" + certificate_pem(authorities.back());
  }
  authorities.push_back(house_.root.der());
  bundle += certificate_pem(authorities.back());
  EXPECT_EQ(read_authorities(as_bytes(bundle)), authorities);
  const std::vector<Bytes> chain{one_, two_}, root{house_.root.der()};
  EXPECT_EQ(relevant_authorities(authorities, chain), root);
  EXPECT_EQ(relevant_authorities(authorities, {one_}), std::vector<Bytes>{authorities.front()})
      << "none fits by its name: never an empty list, which would mean that none was asked for";
  authorities.push_back(two_);
  EXPECT_EQ(relevant_authorities(authorities, {one_}), (std::vector<Bytes>{root.front(), two_}));
}

TEST_F(CertificateFile, Fault178_TimesAreShownAsTheyAre) {
  const std::pair<const char*, const char*> kTimes[] = {
      {"690101000000Z", "1969-01-01T00:00:00.000Z"},
      {"380119031408Z", "2038-01-19T03:14:08.000Z"},
      {"491231235959Z", "2049-12-31T23:59:59.000Z"},
      {"20500101000000Z", "2050-01-01T00:00:00.000Z"},
      {"99991231235959Z", "9999-12-31T23:59:59.000Z"}};
  for (const auto& [written, shown] : kTimes) {
    const Party party = issue({"times", nullptr, kServer, house_.key});
    ASSERT_EQ(ASN1_TIME_set_string(X509_getm_notBefore(party.certificate.get()), kTimes[0].first),
              1);
    ASSERT_EQ(ASN1_TIME_set_string(X509_getm_notAfter(party.certificate.get()), written), 1);
    X509_sign(party.certificate.get(), party.key.get(), EVP_sha256());
    const auto facts = certificate_facts(party.der());
    EXPECT_EQ(facts.valid_from, kTimes[0].second);
    EXPECT_EQ(facts.valid_until, shown);
    EXPECT_GE((facts.not_after - facts.not_before).count(), 0) << "no overflow";
  }
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
  for (std::size_t i = 0; i <= kMaxCertificates; ++i)
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
