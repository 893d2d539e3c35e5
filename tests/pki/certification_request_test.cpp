#include "agent/pki/certification_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/openssl/reference.h"
#include "tests/pki/key_pair.h"

namespace keyagent::pki {
namespace {

using testing::HasSubstr;

class RequestTest : public testing::Test {
 protected:
  Bytes make(const RequestedName& name) const {
    return make_request(pair_.spki(), name, pair_.signer());
  }
  std::string refusal(const RequestedName& name) const {
    try {
      make(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUsage);
      return error.what();
    }
    return "made";
  }
  test::KeyPair pair_;
};

TEST_F(RequestTest, T2_HasItsNamesAndVerifies) {
  const Bytes der = make({"/C=DE/O=A\\/B GmbH/CN=host", {"DNS:host", "IP:::1"}});
  const unsigned char* at = der.data();
  const std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(
      d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())), X509_REQ_free);
  ASSERT_TRUE(request);
  EXPECT_EQ(X509_REQ_verify(request.get(), pair_.key.get()), 1);
  char organisation[64] = {};
  X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(request.get()), NID_organizationName,
                            organisation, sizeof organisation);
  EXPECT_STREQ(organisation, "A/B GmbH");
  const auto extensions = X509_REQ_get_extensions(request.get());
  EXPECT_EQ(sk_X509_EXTENSION_num(extensions), 1);
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
}

TEST_F(RequestTest, WhatIsWrongWithANameIsSaid) {
  EXPECT_THAT(refusal({"CN=x", {}}), HasSubstr("begins with '/'"));
  EXPECT_THAT(refusal({"/CN", {}}), HasSubstr("FIELD=VALUE"));
  EXPECT_THAT(refusal({"/XX=y", {}}), HasSubstr("no field 'XX'"));
  EXPECT_THAT(refusal({"/C=Germany", {}}), HasSubstr("two letters"));
  EXPECT_THAT(refusal({"/CN=x", {"host"}}), HasSubstr("no alternative name"));
  EXPECT_THAT(refusal({"/CN=x", {"DNS:a,DNS:b"}}), HasSubstr("no alternative name"));
  EXPECT_THAT(refusal({"/CN=x", {"IP:300.1.1.1"}}), HasSubstr("is wrong"));
}

TEST_F(RequestTest, ASignatureThatDoesNotVerifyIsNotGivenOut) {
  try {
    make_request(pair_.spki(), {"/CN=x", {}},
                 {openssl::algorithm_identifier(SignatureAlgorithm::kEs256),
                  [](ByteView) { return openssl::ecdsa_der(Bytes(64, 1)); }});
    FAIL() << "made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kIntegrity);
  }
}

TEST(SignatureEncoding, AlgorithmIdentifiersAreThoseOfOpenssl) {
  const std::pair<SignatureAlgorithm, int> known[] = {
      {SignatureAlgorithm::kRs256, NID_sha256WithRSAEncryption},
      {SignatureAlgorithm::kRs384, NID_sha384WithRSAEncryption},
      {SignatureAlgorithm::kRs512, NID_sha512WithRSAEncryption},
      {SignatureAlgorithm::kPs256, NID_rsassaPss},
      {SignatureAlgorithm::kPs512, NID_rsassaPss},
      {SignatureAlgorithm::kEs256, NID_ecdsa_with_SHA256},
      {SignatureAlgorithm::kEs384, NID_ecdsa_with_SHA384},
      {SignatureAlgorithm::kEdDsa, NID_ED25519}};
  for (const auto& [algorithm, nid] : known) {
    const Bytes der = openssl::algorithm_identifier(algorithm);
    const unsigned char* at = der.data();
    const std::unique_ptr<X509_ALGOR, decltype(&X509_ALGOR_free)> parsed(
        d2i_X509_ALGOR(nullptr, &at, static_cast<long>(der.size())), X509_ALGOR_free);
    ASSERT_TRUE(parsed) << nid;
    const ASN1_OBJECT* object = nullptr;
    X509_ALGOR_get0(&object, nullptr, nullptr, parsed.get());
    EXPECT_EQ(OBJ_obj2nid(object), nid);
    EXPECT_EQ(at, der.data() + der.size());
  }
}

TEST(SignatureEncoding, EcdsaNumbersAreMinimalAndPositive) {
  Bytes raw(64);
  raw[0] = 0x80;
  raw[63] = 1;
  const Bytes der = openssl::ecdsa_der(raw);
  EXPECT_EQ(to_hex(der).substr(0, 12), "302602210080");
  EXPECT_EQ(to_hex(der).substr(to_hex(der).size() - 6), "020101");
}

TEST(Reference, UrisAndFilesNameKeys) {
  using openssl::parse_reference;
  EXPECT_EQ(parse_reference("keyagent:web")->which, "web");
  EXPECT_EQ(parse_reference("pkcs11:object=web;type=private")->which, "web");
  EXPECT_EQ(parse_reference("pkcs11:object=keyagent:mail:web")->which, "web") << "the label";
  EXPECT_EQ(to_hex(parse_reference("pkcs11:id=%01%ff")->cka_id), "01ff");
  EXPECT_FALSE(parse_reference("file:/etc/ssl/key.pem"));
  EXPECT_THROW(parse_reference("keyagent:"), Error);
  EXPECT_THROW(parse_reference("pkcs11:token=x"), Error);
  EXPECT_THROW(parse_reference("pkcs11:object=web?pin-value=1234"), Error);
  const std::string uri = "pkcs11:object=" + std::string(200, 'x');
  const std::string pem = openssl::reference_pem(uri);
  EXPECT_EQ(openssl::uri_in_pem("text before\n" + pem + "text after"), uri);
  EXPECT_FALSE(openssl::uri_in_pem(pem.substr(0, pem.size() - 20)));
  EXPECT_FALSE(
      openssl::uri_in_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"));
}

}  // namespace
}  // namespace keyagent::pki
