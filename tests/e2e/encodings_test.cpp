// SPDX-License-Identifier: Apache-2.0
// The forms in which people have envelopes, keys and signatures in files (RELIABILITY 156, 176,
// 177).

#include <gmock/gmock.h>

#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Encodings : public testing::Test {
 protected:
  Encodings() {
    host_.start();
    host_.write("text", "hello");
  }
  void create(const std::string& name, const std::string& how) {
    ASSERT_EQ(host_.keyagent("key create " + name + " " + how).status, 0);
    ASSERT_EQ(host_.keyagent("key public " + name + " -o " + name + ".pem").status, 0);
  }
  void expect_opens(const std::string& content, const std::string& what) {
    host_.write("in", content);
    const auto result = host_.keyagent("open in");
    EXPECT_EQ(result.status, 0) << what << ": " << result.output;
    EXPECT_EQ(result.output, "hello") << what;
  }
  // A certificate around NAME.pem, by an authority of the moment: NAME.crt, ca.crt.
  void certificate(const std::string& name) {
    host_.shell(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out "
        "ca.crt -subj /CN=author -days 1 2>/dev/null && openssl req -new -key ca.key -subj /CN=x "
        "-out any.csr && printf 'subjectKeyIdentifier=hash\n' >ext && openssl x509 -req -in "
        "any.csr -CA ca.crt -CAkey ca.key -force_pubkey " +
        name + ".pem -extfile ext -days 1 -set_serial 2 -out " + name + ".crt 2>/dev/null");
  }
  static std::string with_crlf(const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '\n' ? "\r\n" : std::string(1, c);
    return out;
  }

  Host host_;
};

TEST_F(Encodings, Fault176_CmsOpensAsFilesComeFromMailAndEditors) {
  create("k", "--purpose transport --algorithm rsa-2048");
  ASSERT_EQ(host_.keyagent("seal text --public k.pem --format cms -o der").status, 0);
  host_.shell("openssl cms -cmsout -inform DER -in der -outform PEM -out pem");
  const std::string pem = host_.read("pem"), der = host_.read("der");
  expect_opens(pem, "PEM");
  expect_opens(with_crlf(pem), "CRLF");
  expect_opens("\n" + pem, "a blank line before");
  expect_opens("\xEF\xBB\xBF" + pem, "a byte order mark");
  expect_opens("Sealed for web1, ticket 4711\n" + pem, "a line of text before");
  expect_opens(der + "\n", "DER and a line feed");
}

TEST_F(Encodings, Fault176_AJweOpensWithWhiteSpaceAround) {
  create("k", "--purpose transport --algorithm ec-p256");
  ASSERT_EQ(host_.keyagent("seal text --key k -o jwe").status, 0);
  std::string token = host_.read("jwe");
  token.pop_back();
  for (const std::string after : {"\n\n\n", "\r\n", " \n"}) expect_opens(token + after, after);
  for (const std::string before : {"\n", "  ", "\xEF\xBB\xBF"})
    expect_opens(before + token, before);
}

TEST_F(Encodings, Fault176_WhatSignWritesVerifyReads) {
  for (const auto& [name, algorithm] : std::vector<std::pair<std::string, std::string>>{
           {"ec", "ec-p256"}, {"ed", "ed25519"}, {"rsa", "rsa-2048"}}) {
    create(name, "--purpose sign --algorithm " + algorithm);
    for (const std::string format : {"openssl", "raw", "base64", "jws"}) {
      SCOPED_TRACE(name + " " + format);
      ASSERT_EQ(
          host_.keyagent("sign text --key " + name + " --format " + format + " -o sig").status, 0);
      const std::string verify = "verify text --signature sig --format " + format;
      EXPECT_EQ(host_.keyagent(verify + " --key " + name).status, 0);
      EXPECT_EQ(host_.keyagent(verify + " --public " + name + ".pem").status, 0);
      if (format != "jws") continue;
      host_.write("sig", " " + host_.read("sig") + "\r\n");
      EXPECT_EQ(host_.keyagent(verify + " --key " + name).status, 0);
    }
  }
}

TEST_F(Encodings, Fault177_AGoodJwsVerifiesWithThePublicKeyInEveryForm) {
  create("releases", "--purpose sign --algorithm ec-p256");
  certificate("releases");
  ASSERT_EQ(host_.keyagent("sign text --key releases --format jws -o jws").status, 0);
  ASSERT_EQ(host_.keyagent("key public releases --format jwk -o full.jwk").status, 0);
  ASSERT_EQ(host_.keyagent("key public releases --format der -o releases.der").status, 0);
  Json jwk = Json::parse(host_.read("full.jwk"));
  for (const char* optional : {"alg", "use", "kid"}) jwk.erase(optional);
  host_.write("bare.jwk", "\n" + jwk.dump(2) + "\n");
  host_.shell("openssl x509 -in releases.crt -outform DER -out crt.der");
  for (const std::string file :
       {"releases.pem", "releases.der", "full.jwk", "bare.jwk", "releases.crt", "crt.der"}) {
    const auto good = host_.keyagent("verify --signature jws --format jws --public " + file);
    EXPECT_EQ(good.status, 0) << file << ": " << good.output;
    EXPECT_EQ(good.output, "hello") << file;
  }
  create("other", "--purpose sign --algorithm ec-p256");
  EXPECT_EQ(host_.keyagent("verify --signature jws --format jws --public other.pem").status, 6);
  create("opener", "--purpose transport --algorithm ec-p256");
  ASSERT_EQ(host_.keyagent("key public opener --format jwk -o opener.jwk").status, 0);
  const auto wrong = host_.keyagent("verify --signature jws --format jws --public opener.jwk");
  EXPECT_EQ(wrong.status, 2) << wrong.output;
  EXPECT_THAT(wrong.output, HasSubstr("encryption"));
}

TEST_F(Encodings, Fault177_SealsToAKeyInEveryForm) {
  create("k", "--purpose transport --algorithm ec-p256");
  certificate("k");
  ASSERT_EQ(host_.keyagent("key public k --format jwk -o full.jwk").status, 0);
  Json jwk = Json::parse(host_.read("full.jwk"));
  for (const char* optional : {"alg", "use", "kid"}) jwk.erase(optional);
  host_.write("bare.jwk", jwk.dump());
  host_.shell(
      "openssl x509 -in k.crt -outform DER -out crt.der && "
      "openssl crl2pkcs7 -nocrl -certfile k.crt -certfile ca.crt -out k.p7b && "
      "cat ca.crt k.crt >chain.pem");
  for (const std::string file :
       {"k.pem", "full.jwk", "bare.jwk", "k.crt", "crt.der", "k.p7b", "chain.pem"}) {
    const auto sealed = host_.keyagent("seal text --public " + file + " -o sealed");
    EXPECT_EQ(sealed.status, 0) << file << ": " << sealed.output;
    EXPECT_EQ(host_.keyagent("open sealed").output, "hello") << file;
  }
  host_.write("none", "no key");
  EXPECT_EQ(host_.keyagent("seal text --public none").status, 2);
  const auto secret = host_.keyagent("seal text --public ca.key");
  EXPECT_EQ(secret.status, 2);
  EXPECT_THAT(secret.output, HasSubstr("private key"));
}

TEST_F(Encodings, Fault156_CbcContentIsForKeysThatWereCreatedForIt) {
  create("k", "--purpose transport --algorithm ec-p256");
  create("legacy", "--purpose transport --algorithm ec-p256 --accept-cbc");
  EXPECT_TRUE(host_.json("key show legacy").at("accepts_cbc").get<bool>());
  for (const std::string words : {"key show legacy", "key list", "status"})
    EXPECT_THAT(host_.keyagent(words).output, HasSubstr("AES-CBC")) << words;
  for (const std::string name : {"k", "legacy"}) {
    certificate(name);
    host_.shell("openssl cms -encrypt -binary -in text -outform DER -aes-256-cbc -keyid -out " +
                name + ".cbc -recip " + name +
                ".crt && openssl cms -encrypt -binary -in text -outform DER "
                "-aes-256-gcm -keyid -out " +
                name + ".gcm -recip " + name + ".crt");
  }
  EXPECT_EQ(host_.keyagent("open k.gcm").output, "hello");
  EXPECT_EQ(host_.keyagent("open legacy.cbc").output, "hello");
  for (const std::string file : {"k.cbc", "legacy.gcm"}) {
    const auto refused = host_.keyagent("open " + file);
    EXPECT_EQ(refused.status, 3) << file << refused.output;
    EXPECT_THAT(refused.output, Not(HasSubstr("hello")));
  }
  EXPECT_EQ(host_.keyagent("seal text --key legacy").status, 3);
  const auto resealed = host_.keyagent("reseal legacy.cbc");
  EXPECT_EQ(resealed.status, 7);
  EXPECT_THAT(resealed.output, HasSubstr("aes-256-gcm"));
}

TEST_F(Encodings, Fault156_ResealOfWhatDoesNotOpenIsNotUpToDate) {
  create("k", "--purpose transport --algorithm ec-p256");
  ASSERT_EQ(host_.keyagent("seal text --key k -o jwe").status, 0);
  EXPECT_EQ(host_.json("reseal jwe").at("current"), 1);
  std::string token = host_.read("jwe");
  char& last = token[token.size() - 4];
  last = last == 'A' ? 'B' : 'A';
  host_.write("jwe", token);
  const auto outcome = host_.json("reseal jwe", 7);
  EXPECT_EQ(outcome.at("current"), 0);
  EXPECT_EQ(outcome.at("failed").size(), 1u);
}

TEST_F(Encodings, Fault176_ResealKeepsTheFormOfTheFile) {
  create("k", "--purpose transport --algorithm ec-p256");
  ASSERT_EQ(host_.keyagent("seal text --key k --format cms -o der").status, 0);
  host_.shell("openssl cms -cmsout -inform DER -in der -outform PEM -out pem");
  ASSERT_EQ(host_.keyagent("rekey k --wait").status, 0);
  ASSERT_EQ(host_.keyagent("reseal pem").status, 0);
  EXPECT_THAT(host_.read("pem"), testing::StartsWith("-----BEGIN CMS-----\n"));
  EXPECT_EQ(host_.keyagent("open pem").output, "hello");
}

}  // namespace
}  // namespace keyagent::test
