// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/issuer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/pki/revocation_list.h"
#include "tests/pki/key_pair.h"
#include "tests/support/command.h"
#include "tests/support/temp_folder.h"

namespace keyagent::pki {
namespace {

using namespace std::chrono_literals;
using test::KeyPair;
using testing::AllOf;
using testing::HasSubstr;

class IssuerTest : public testing::Test {
 protected:
  Validity days(int count) const {
    const auto now = std::chrono::system_clock::now();
    return {now - 1min, now + std::chrono::hours(24 * count)};
  }
  Certified web(const std::string& serial) const {
    return {subject_.spki(), "/CN=web1", {"DNS:web1"}, Use::kClient, days(60), serial};
  }
  std::string save(const std::string& name, const std::string& text) const {
    const auto path = (folder_.path() / name).string();
    std::ofstream(path) << text;
    return path;
  }
  test::TempFolder folder_;
  KeyPair ca_, subject_;
  Bytes authority_ = make_authority(ca_.spki(), "/O=Test/CN=Instance CA", days(3650), ca_.signer());
};

TEST_F(IssuerTest, T3_OpensslVerifiesWhatIsIssued) {
  const auto ca = save("ca.pem", certificate_pem(authority_));
  const auto serial = new_serial();
  const auto leaf = save("web.pem", certificate_pem(issue(authority_, web(serial), ca_.signer())));
  test::run_command("openssl verify -x509_strict -purpose sslclient -CAfile " + ca + " " + leaf);
  EXPECT_NE(test::try_command("openssl verify -purpose sslserver -CAfile " + ca + " " + leaf +
                              " 2>/dev/null")
                .status,
            0);
  EXPECT_THAT(test::run_command("openssl x509 -noout -text -in " + leaf),
              AllOf(HasSubstr("Version: 3"), HasSubstr("DNS:web1"), HasSubstr("CA:FALSE"),
                    HasSubstr("TLS Web Client Authentication"), HasSubstr("Digital Signature"),
                    HasSubstr("Subject Key Identifier"), HasSubstr("Authority Key Identifier")));
  EXPECT_THAT(test::run_command("openssl x509 -noout -text -in " + ca),
              AllOf(HasSubstr("CA:TRUE, pathlen:0"), HasSubstr("Certificate Sign, CRL Sign")));
}

TEST_F(IssuerTest, T9_OpensslRefusesARevokedOneByTheCrlAndTakesTheOther) {
  const auto ca = save("ca.pem", certificate_pem(authority_));
  const auto bad = new_serial(), good = new_serial();
  const auto revoked = save("bad.pem", certificate_pem(issue(authority_, web(bad), ca_.signer())));
  const auto valid = save("good.pem", certificate_pem(issue(authority_, web(good), ca_.signer())));
  const auto crl =
      save("crl.pem",
           crl_pem(make_crl(authority_, {{bad, std::chrono::system_clock::now(), "keyCompromise"}},
                            7, days(1), ca_.signer())));
  const std::string verify = "openssl verify -crl_check -CAfile " + ca + " -CRLfile " + crl + " ";
  const auto answer = test::try_command(verify + revoked + " 2>&1");
  EXPECT_NE(answer.status, 0);
  EXPECT_THAT(answer.output, HasSubstr("certificate revoked"));
  test::run_command(verify + valid);
  EXPECT_THAT(test::run_command("openssl crl -noout -text -in " + crl),
              AllOf(HasSubstr("Key Compromise"), HasSubstr("CRL Number"), HasSubstr("7")));
}

TEST_F(IssuerTest, ARequestGivesItsKeyOnlyWhenItIsSignedByIt) {
  Bytes request = make_request(subject_.spki(), {"/CN=x", {}}, subject_.signer());
  EXPECT_EQ(key_of_request(as_text(request)), subject_.spki());
  request.back() ^= 1;
  try {
    key_of_request(as_text(request));
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == Code::kIntegrity || error.code() == Code::kInput);
  }
  EXPECT_THROW(key_of_request("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"), Error);
  EXPECT_THROW(key_of_request(std::string(100000, 'a')), Error);
}

TEST_F(IssuerTest, ARequestIsTheSameInPemAndDer) {
  const Bytes request = make_request(subject_.spki(), {"/CN=x", {}}, subject_.signer());
  const auto pem = request_pem(request);
  EXPECT_THAT(test::run_command("openssl req -noout -verify -in " + save("x.csr", pem) + " 2>&1"),
              HasSubstr("OK"));
  EXPECT_EQ(key_of_request(pem), subject_.spki());
}

TEST_F(IssuerTest, ARevocationListIsReadOnlyWhenItIsItsAuthoritys) {
  const auto list = [&](const Bytes& authority, const KeyPair& signer, const Validity& validity) {
    return crl_pem(make_crl(authority, {}, 1, validity, signer.signer()));
  };
  const auto code = [](const std::string& pem, const Bytes& authority) {
    try {
      read_crl(pem, authority);
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kOk;
  };
  const auto good = list(authority_, ca_, days(1));
  EXPECT_EQ(crl_pem(read_crl("# ours\n" + good, authority_)), good);
  const KeyPair other;
  const Bytes namesake =
      make_authority(other.spki(), "/O=Test/CN=Instance CA", days(3650), other.signer());
  const Bytes renamed = make_authority(ca_.spki(), "/CN=Another", days(3650), ca_.signer());
  EXPECT_EQ(code(list(namesake, other, days(1)), authority_), Code::kIntegrity) << "another key";
  EXPECT_EQ(code(list(renamed, ca_, days(1)), authority_), Code::kIntegrity) << "another name";
  EXPECT_EQ(code("hello", authority_), Code::kInput);
  EXPECT_EQ(code(certificate_pem(authority_), authority_), Code::kInput);
  EXPECT_EQ(code(good, Bytes{0x30}), Code::kInput);
  const auto long_ago = std::chrono::system_clock::now() - std::chrono::hours(48);
  EXPECT_EQ(code(list(authority_, ca_, {long_ago, long_ago + 1min}), authority_), Code::kOk)
      << "what an old list names stays revoked";
}

TEST_F(IssuerTest, ASignatureThatDoesNotVerifyLeavesNoCertificate) {
  try {
    issue(authority_, web(new_serial()), subject_.signer());
    FAIL() << "issued";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kIntegrity);
  }
}

TEST_F(IssuerTest, NamesSerialsAndReasonsAreChecked) {
  auto certified = web(new_serial());
  certified.alternative_names = {"DNS:a,DNS:b"};
  EXPECT_THROW(issue(authority_, certified, ca_.signer()), Error);
  for (const char* serial : {"", "xyz", "00", "abcd0000000000000000000000000000000000000000"}) {
    EXPECT_THROW(issue(authority_, web(serial), ca_.signer()), Error) << serial;
  }
  EXPECT_THROW(make_crl(authority_, {{"01", {}, "boredom"}}, 1, days(1), ca_.signer()), Error);
}

}  // namespace
}  // namespace keyagent::pki
