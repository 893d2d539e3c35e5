// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/certification_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/x509v3.h>

#include <algorithm>
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
  char organization[64] = {};
  X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(request.get()), NID_organizationName,
                            organization, sizeof organization);
  EXPECT_STREQ(organization, "A/B GmbH");
  const auto extensions = X509_REQ_get_extensions(request.get());
  EXPECT_EQ(sk_X509_EXTENSION_num(extensions), 1);
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
}

TEST_F(RequestTest, AnInvalidNameIsRefusedWithTheReason) {
  EXPECT_THAT(refusal({"CN=x", {}}), HasSubstr("must begin with '/'"));
  EXPECT_THAT(refusal({"/CN", {}}), HasSubstr("FIELD=VALUE"));
  EXPECT_THAT(refusal({"/XX=y", {}}), HasSubstr("no field 'XX'"));
  EXPECT_THAT(refusal({"/C=Germany", {}}), HasSubstr("two letters"));
  EXPECT_THAT(refusal({"/CN=x", {"host"}}), HasSubstr("use DNS:, IP:, email: or URI:"));
  EXPECT_THAT(refusal({"/CN=x", {"DNS:a,DNS:b"}}), HasSubstr("labels of letters"));
  EXPECT_THAT(refusal({"/CN=x", {"IP:300.1.1.1"}}), HasSubstr("an address must be"));
}

// The values of the request's alternative names, as OpenSSL reads them back: the independent
// reader.
std::vector<std::string> names_in(const Bytes& der) {
  const unsigned char* at = der.data();
  const std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(
      d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())), X509_REQ_free);
  auto* extensions = X509_REQ_get_extensions(request.get());
  auto* names = static_cast<GENERAL_NAMES*>(
      X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr));
  std::vector<std::string> out;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    int type = 0;
    const auto* value =
        static_cast<ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type));
    out.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                     static_cast<std::size_t>(ASN1_STRING_length(value)));
  }
  GENERAL_NAMES_free(names);
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  return out;
}

std::string subject_in(const Bytes& der) {
  const unsigned char* at = der.data();
  const std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(
      d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())), X509_REQ_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
  X509_NAME_print_ex(bio.get(), X509_REQ_get_subject_name(request.get()), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<std::size_t>(std::max(size, 0L))};
}

TEST_F(RequestTest, Fault175_EachNameIsTakenWholeAndStaysOne) {
  const std::vector<std::string> names{
      "DNS:www.example.org",          "DNS:*.example.org",
      "DNS:xn--bcher-kva.example",    "DNS:_sip.example.org",
      "email:o'neil+x@a.example",     "URI:https://example.org/a,b;c=1+2",
      "URI:spiffe://example.org/web", "URI:urn:uuid:1,email:copy"};
  std::vector<std::string> values;
  for (const auto& name : names) values.push_back(name.substr(name.find(':') + 1));
  EXPECT_EQ(names_in(make({"/CN=x", names})), values);
}

TEST_F(RequestTest, Fault175_NamesWithALineEndOrAnotherFormAreRefusedByName) {
  using namespace std::string_literals;
  for (const std::string& end : {"\r"s, "\n"s, "\r\n"s, "\t"s, " "s, "\0"s, "\x7f"s}) {
    for (const std::string& name :
         {"DNS:a.example"s, "IP:10.0.0.1"s, "email:a@b.example"s, "URI:https://a.example/"s}) {
      const auto said = refusal({"/CN=x", {name + end, "DNS:b.example"}});
      EXPECT_THAT(said, HasSubstr("not a usable alternative name")) << name;
      EXPECT_EQ(said.find_first_of("\r\n\t"), std::string::npos) << "it is escaped in the text";
    }
  }
  const std::pair<std::string, const char*> kForms[] = {{"DNS:b\xc3\xbc"
                                                         "cher.example",
                                                         "xn--"},
                                                        {"DNS:exa mple.org", "labels"},
                                                        {"DNS:a.example;DNS:b.example", "labels"},
                                                        {"DNS:https://a.example/", "labels"},
                                                        {"DNS:", "empty"},
                                                        {"DNS:a..b", "labels"},
                                                        {"DNS:a.example.", "labels"},
                                                        {"DNS:w*.example", "labels"},
                                                        {"DNS:-a.example", "labels"},
                                                        {"DNS:10.0.0.1", "IP:"},
                                                        {"DNS:" + std::string(64, 'a'), "labels"},
                                                        {"email:nobody", "LOCAL@HOST"},
                                                        {"email:a@b@c", "labels"},
                                                        {"email:J\xc3\xb6@a.example", "ASCII"},
                                                        {"URI:no-scheme", "scheme"},
                                                        {"URI:https://", "must name a host"},
                                                        {"URI:https://a.example/%zz", "%XX"},
                                                        {"URI:https://a.example/\xc3\xbc", "%XX"},
                                                        {"IP:10.0.0.1/8", "address"},
                                                        {"RID:1.2.3", "use DNS:"},
                                                        {"dirName:section", "use DNS:"},
                                                        {"otherName:1.2;UTF8:x", "use DNS:"}};
  for (const auto& [name, why] : kForms)
    EXPECT_THAT(refusal({"/CN=x", {name}}), HasSubstr(why)) << name;
}

TEST_F(RequestTest, Fault175_APlusJoinsTwoFieldsAndEscapedOnesStay) {
  EXPECT_EQ(subject_in(make({"/DC=org/UID=123456+CN=Jo Doe", {}})), "UID=123456+CN=Jo Doe,DC=org");
  EXPECT_EQ(subject_in(make({"/O=A\\+B\\/C\\\\D, Inc./CN=x", {}})), "CN=x,O=A\\+B/C\\\\D\\, Inc.");
  EXPECT_THAT(refusal({"/O=A+B/CN=x", {}}), HasSubstr("write \\+ for a plus sign"));
  EXPECT_THAT(refusal({"/O=A/B/CN=x", {}}), HasSubstr("write \\/ for a slash"));
  for (const char* value : {"www.example.org\r", "a\nb", "a\tb", "a\x7f"})
    EXPECT_THAT(refusal({std::string("/CN=") + value, {}}), HasSubstr("control character"));
  EXPECT_THAT(refusal({"/CN=\xff\xfe", {}}), HasSubstr("not UTF-8"));
}

TEST_F(RequestTest, Fault177_ASubjectMayBeAbsentWhereANameIsGiven) {
  for (const char* subject : {"", "/"}) {
    const Bytes der = make({subject, {"DNS:a.example"}});
    EXPECT_EQ(subject_in(der), "");
    EXPECT_EQ(names_in(der), std::vector<std::string>{"a.example"});
    EXPECT_THAT(refusal({subject, {}}), HasSubstr("has no name"));
  }
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
  for (const char* twice :
       {"pkcs11:object=one;object=two", "pkcs11:object=one;type=cert;type=private",
        "pkcs11:token=a;object=one;token=b"})
    EXPECT_THROW(parse_reference(twice), Error) << "Fault 175: " << twice;
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
