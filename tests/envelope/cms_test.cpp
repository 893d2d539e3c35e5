// SPDX-License-Identifier: Apache-2.0
// CMS: what seal_cms() makes, what is refused before the token, and that openssl and we understand
// each other.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/base/encoding.h"
#include "tests/envelope/keys.h"
#include "tests/envelope/program.h"

namespace keyagent::envelope {
namespace {

using test::fails_as_input_or_unsupported;
using test::run;
using test::secret;
using test::text_of;
using test::WorkFolder;

// A certificate for `key` in cert.pem and the private key in key.pem, as a person without an agent
// would have them.
void write_certificate(const WorkFolder& folder, const PublicKeyInfo& key) {
  folder.write("key.der", test::shared_keys().pkcs8(key.kid));
  run(folder, "openssl pkey -inform DER -in key.der -out key.pem");
  run(folder,
      "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.pem -x509 "
      "-subj /CN=ca -out ca.crt");
  run(folder, "openssl pkey -in key.pem -pubout -out pub.pem");
  folder.write("ext", as_bytes("subjectKeyIdentifier=hash\n"));
  run(folder, "openssl req -new -key ca.pem -subj /CN=agent -out agent.csr");
  run(folder,
      "openssl x509 -req -in agent.csr -CA ca.crt -CAkey ca.pem -force_pubkey pub.pem "
      "-extfile ext -set_serial 1 -out cert.pem");
}

std::string padding_options(const PublicKeyInfo& key) {
  switch (key.envelope) {
    case EnvelopeAlgorithm::kRsaOaep:
      return "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha1 -keyopt rsa_mgf1_md:sha1";
    case EnvelopeAlgorithm::kRsaOaep256:
      return "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256";
    default:
      return "";
  }
}

class CmsOfEveryKey : public testing::TestWithParam<test::KeyCase> {
 protected:
  test::SoftwareKeys& keys_ = test::shared_keys();
  PublicKeyInfo key_ = test::shared_key(GetParam());
};

TEST_P(CmsOfEveryKey, R4_RoundTripOverSizesAndContentEncryptions) {
  for (const auto enc : {ContentEncryption::kA128Gcm, ContentEncryption::kA256Gcm}) {
    for (const std::size_t size : {0U, 1U, 100U, 127U, 128U, 255U, 256U, 65537U, 131072U}) {
      const SecretBytes text = random_secret(size);
      const Bytes sealed = seal_cms(key_, enc, text);
      ASSERT_LE(sealed.size(), kMaxEnvelope);
      EXPECT_THAT(inspect(sealed).recipient_ids,
                  testing::ElementsAre(subject_key_identifier(key_.spki)));
      EXPECT_EQ(open(keys_, key_, sealed), text) << size;
    }
  }
}

TEST_P(CmsOfEveryKey, R4_EveryFlippedBitFailsWithoutAPlaintext) {
  const Bytes sealed = seal_cms(key_, ContentEncryption::kA256Gcm, secret("a credential"));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bad = sealed;
      bad[i] ^= static_cast<std::uint8_t>(1U << static_cast<unsigned>(bit));
      ASSERT_TRUE(fails_as_input_or_unsupported(keys_, key_, bad))
          << "byte " << i << " bit " << bit;
      if (is_rsa(key_.algorithm)) break;  // a bit of each byte: RSA is slow
    }
  }
}

TEST_P(CmsOfEveryKey, R4_TruncatedAnywhereFails) {
  const Bytes sealed = seal_cms(key_, ContentEncryption::kA256Gcm, secret("a credential"));
  for (std::size_t size = 0; size < sealed.size(); ++size) {
    const Bytes bad(sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(size));
    ASSERT_EQ(code_of([&] { open(keys_, key_, bad); }), Code::kInput) << size;
  }
}

TEST_P(CmsOfEveryKey, R4_OpensslReadsWhatWeSeal) {
  const WorkFolder folder;
  write_certificate(folder, key_);
  folder.write("sealed.der", seal_cms(key_, ContentEncryption::kA256Gcm, secret("from keyagent")));
  run(folder,
      "openssl cms -decrypt -inform DER -in sealed.der -recip cert.pem -inkey key.pem -out text");
  EXPECT_EQ(as_text(folder.read("text")), "from keyagent");
}

TEST_P(CmsOfEveryKey, R4_WhatOpensslSealsOpens) {
  const WorkFolder folder;
  write_certificate(folder, key_);
  folder.write("text", as_bytes("from openssl"));
  for (const std::string cipher : {"aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"}) {
    PublicKeyInfo key = key_;
    key.accepts_cbc = cipher.ends_with("cbc");
    for (const std::string naming : {"-keyid", ""}) {
      for (const std::string form : {"DER", "PEM"}) {
        run(folder, "openssl cms -encrypt -binary -in text -outform " + form + " -" + cipher + " " +
                        naming + " -out sealed -recip cert.pem " + padding_options(key_));
        const Bytes sealed = folder.read("sealed");
        EXPECT_EQ(inspect(sealed).recipient_ids.size(), naming.empty() ? 0U : 1U);
        EXPECT_EQ(text_of(open(keys_, key, sealed)), "from openssl") << cipher << naming << form;
      }
    }
  }
}

TEST_P(CmsOfEveryKey, R4_StreamedBerOpens) {
  const WorkFolder folder;
  write_certificate(folder, key_);
  folder.write("text", Bytes(100000, 'x'));
  run(folder,
      "openssl cms -encrypt -binary -stream -in text -outform DER -aes-256-gcm -keyid -out "
      "sealed -recip cert.pem " +
          padding_options(key_));
  EXPECT_EQ(open(keys_, key_, folder.read("sealed")), SecretBytes(100000, 'x'));
}

INSTANTIATE_TEST_SUITE_P(Keys, CmsOfEveryKey, testing::ValuesIn(test::public_keys()),
                         test::case_name);

class Cms : public testing::Test {
 protected:
  void expect_refused_untouched(ByteView bytes, Code code, const std::string& words) {
    const int before = keys_.calls().total();
    try {
      open(keys_, key_, bytes);
      FAIL() << "opened";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code);
      EXPECT_THAT(e.what(), testing::HasSubstr(words));
    }
    EXPECT_EQ(keys_.calls().total(), before) << "the token was asked";
  }
  Bytes openssl_seals(const std::string& options) {
    folder_.write("text", as_bytes("from openssl"));
    run(folder_, "openssl cms -encrypt -binary -in text -outform DER -out sealed " + options);
    return folder_.read("sealed");
  }

  test::SoftwareKeys& keys_ = test::shared_keys();
  PublicKeyInfo key_ = test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256});
  WorkFolder folder_;
};

TEST_F(Cms, Fault101_Rsa15RecipientIsRefusedBeforeTheTokenWithTheFix) {
  write_certificate(folder_, key_);
  expect_refused_untouched(openssl_seals("-aes-256-gcm -keyid -recip cert.pem"), Code::kUnsupported,
                           "rsa_padding_mode:oaep");
}

TEST_F(Cms, Fault100_OaepHashIsTheKeysOwn) {
  write_certificate(folder_, key_);
  expect_refused_untouched(
      openssl_seals("-aes-256-gcm -keyid -recip cert.pem -keyopt rsa_padding_mode:oaep "
                    "-keyopt rsa_oaep_md:sha1"),
      Code::kUnsupported, "RSA-OAEP-256 only");
  expect_refused_untouched(
      openssl_seals("-aes-256-gcm -keyid -recip cert.pem -keyopt rsa_padding_mode:oaep "
                    "-keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha1"),
      Code::kUnsupported, "hashes");
  expect_refused_untouched(
      openssl_seals("-aes-256-gcm -keyid -recip cert.pem -keyopt rsa_padding_mode:oaep "
                    "-keyopt rsa_oaep_md:sha256 -keyopt rsa_oaep_label:6162"),
      Code::kUnsupported, "label");
}

TEST_F(Cms, OtherCiphersAreRefusedByName) {
  write_certificate(folder_, key_);
  const std::string oaep = " -keyid -recip cert.pem " + padding_options(key_);
  expect_refused_untouched(openssl_seals("-des3" + oaep), Code::kUnsupported, "des-ede3-cbc");
  expect_refused_untouched(openssl_seals("-aes-192-gcm" + oaep), Code::kUnsupported, "GCM");
}

TEST_F(Cms, SignedDataAndSmimeMailAreRefusedByName) {
  write_certificate(folder_, key_);
  folder_.write("text", as_bytes("x"));
  run(folder_, "openssl cms -sign -in text -signer cert.pem -inkey key.pem -outform DER -out s");
  expect_refused_untouched(folder_.read("s"), Code::kUnsupported, "igned");
  run(folder_, "openssl cms -encrypt -in text -aes-256-gcm -keyid -out s -recip cert.pem " +
                   padding_options(key_));
  expect_refused_untouched(folder_.read("s"), Code::kUnsupported, "-outform DER");
}

TEST_F(Cms, OneOfSeveralRecipientsIsFoundByItsKeyIdentifier) {
  const auto other = test::shared_key({KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw});
  write_certificate(folder_, other);
  run(folder_, "cp cert.pem other.pem");
  write_certificate(folder_, key_);
  const Bytes sealed = openssl_seals("-aes-256-gcm -keyid -recip other.pem -recip cert.pem " +
                                     padding_options(key_));
  EXPECT_EQ(inspect(sealed).recipient_ids.size(), 2U);
  EXPECT_EQ(text_of(open(keys_, key_, sealed)), "from openssl");
  EXPECT_EQ(text_of(open(keys_, other, sealed)), "from openssl");
  const auto third = test::shared_key({KeyAlgorithm::kRsa3072, EnvelopeAlgorithm::kRsaOaep256});
  EXPECT_EQ(code_of([&] { open(keys_, third, sealed); }), Code::kInput);
}

TEST_F(Cms, Fault105_CbcPaddingFailsAsEverythingElse) {
  write_certificate(folder_, key_);
  const Bytes sealed =
      openssl_seals("-aes-256-cbc -keyid -recip cert.pem " + padding_options(key_));
  PublicKeyInfo legacy = key_;
  legacy.accepts_cbc = true;
  int opened = 0;
  for (int value = 0; value < 256; ++value) {  // all values of the byte before the padding's last
    Bytes bad = sealed;
    bad.back() ^= static_cast<std::uint8_t>(value);
    const int before = keys_.calls().total();
    try {
      open(keys_, legacy, bad);
      ++opened;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInput);
      EXPECT_EQ(std::string(e.what()), test::input_error_text());
    }
    EXPECT_EQ(keys_.calls().total(), before + 1);
  }
  EXPECT_GE(opened, 1);   // the true one
  EXPECT_LE(opened, 20);  // a garbled last block has valid padding for about one value in 256
}

TEST_F(Cms, Fault104_WrongLengthsAreRefusedBeforeTheToken) {
  const auto longer = test::shared_key({KeyAlgorithm::kRsa3072, EnvelopeAlgorithm::kRsaOaep256});
  Bytes sealed = seal_cms(longer, ContentEncryption::kA256Gcm, secret("x"));
  const Bytes from = subject_key_identifier(longer.spki);
  const Bytes to = subject_key_identifier(key_.spki);
  const auto at = std::search(sealed.begin(), sealed.end(), from.begin(), from.end());
  ASSERT_NE(at, sealed.end());
  std::copy(to.begin(), to.end(), at);
  expect_refused_untouched(sealed, Code::kInput, "modulus");
}

TEST_F(Cms, StorageKeyIsRefused) {
  const auto storage = test::shared_key({KeyAlgorithm::kAes256, EnvelopeAlgorithm::kA256GcmKw});
  EXPECT_EQ(code_of([&] { seal_cms(storage, ContentEncryption::kA256Gcm, secret("x")); }),
            Code::kUnsupported);
  const Bytes sealed = seal_cms(key_, ContentEncryption::kA256Gcm, secret("x"));
  EXPECT_EQ(code_of([&] { open(keys_, storage, sealed); }), Code::kUnsupported);
}

TEST_F(Cms, SubjectKeyIdentifierIsThatOfOpenssl) {
  write_certificate(folder_, key_);
  run(folder_, "openssl x509 -in cert.pem -noout -ext subjectKeyIdentifier > ski");
  std::string hex;
  for (const auto c : folder_.read("ski")) hex += static_cast<char>(std::tolower(c));
  std::erase(hex, ':');
  EXPECT_THAT(hex, testing::HasSubstr(to_hex(subject_key_identifier(key_.spki))));
}

}  // namespace
}  // namespace keyagent::envelope
