// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 156: a key opens content of one kind only, authenticated or AES-CBC, so that no one
// learns of a text by changing it, or by what another one's wrapped key opens.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/base/encoding.h"
#include "tests/envelope/keys.h"
#include "tests/support/cbc_message.h"

namespace keyagent::envelope {
namespace {

using test::secret;
using test::text_of;
using testing::HasSubstr;

constexpr std::size_t kBlock = 16;

class ContentKind : public testing::TestWithParam<test::KeyCase> {
 protected:
  ContentKind() { legacy_.accepts_cbc = true; }

  Bytes cbc_message(std::string_view text) const {
    const std::string der = test::cbc_message(key_.spki, text);
    return Bytes(der.begin(), der.end());
  }
  void expect_refused_untouched(const PublicKeyInfo& key, ByteView bytes,
                                const std::string& words) {
    const int before = keys_.calls().total();
    try {
      open(keys_, key, bytes);
      ADD_FAILURE() << "opened";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUnsupported);
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
    EXPECT_EQ(keys_.calls().total(), before) << "the token was asked";
  }

  test::SoftwareKeys& keys_ = test::shared_keys();
  const PublicKeyInfo key_ = test::shared_key(GetParam());
  PublicKeyInfo legacy_ = key_;  // the same key, as if it had been created with --accept-cbc
};

TEST_P(ContentKind, Fault156_CbcContentIsRefusedBeforeTheTokenWithTheFix) {
  const Bytes sealed = cbc_message("from openssl");
  EXPECT_FALSE(inspect(sealed).authenticated);
  expect_refused_untouched(key_, sealed, "openssl cms -encrypt -aes-256-gcm");
  EXPECT_EQ(text_of(open(keys_, legacy_, sealed)), "from openssl")
      << "control: the message is good";
}

TEST_P(ContentKind, Fault156_AChangedIvOpensNothing) {
  const Bytes good = cbc_message("user=backup-role");
  const Bytes oid{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2A, 0x04, kBlock};
  Bytes bad = good;
  const auto at = std::search(bad.begin(), bad.end(), oid.begin(), oid.end());
  ASSERT_NE(at, bad.end());
  *(at + static_cast<std::ptrdiff_t>(oid.size()) + 5) ^= 'b' ^ 'r';
  expect_refused_untouched(key_, bad, "AES-CBC");
  EXPECT_EQ(text_of(open(keys_, legacy_, bad)), "user=rackup-role")
      << "control: this is what the guard is for";
}

TEST_P(ContentKind, Fault156_AKeyThatAcceptsCbcAcceptsNothingElse) {
  expect_refused_untouched(legacy_, seal_jwe(key_, ContentEncryption::kA256Gcm, secret("x")),
                           "--accept-cbc");
  expect_refused_untouched(legacy_, seal_cms(key_, ContentEncryption::kA256Gcm, secret("x")),
                           "--accept-cbc");
}

TEST_P(ContentKind, Fault156_NothingIsSealedToAKeyThatAcceptsCbc) {
  EXPECT_EQ(code_of([&] { seal_jwe(legacy_, ContentEncryption::kA256Gcm, secret("x")); }),
            Code::kUnsupported);
  EXPECT_EQ(code_of([&] { seal_jwe(keys_, legacy_, ContentEncryption::kA256Gcm, secret("x")); }),
            Code::kUnsupported);
  EXPECT_EQ(code_of([&] { seal_cms(legacy_, ContentEncryption::kA256Gcm, secret("x")); }),
            Code::kUnsupported);
  EXPECT_EQ(code_of([&] { to_jwk(legacy_); }), Code::kUsage) << "others would seal JWE to it";
}

INSTANTIATE_TEST_SUITE_P(
    Keys, ContentKind,
    testing::Values(test::KeyCase{KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256},
                    test::KeyCase{KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw}),
    test::case_name);

// RFC 9709 §1: the wrapped key of a JWE in a message with AES-CBC content. One block of the
// counter's output is asked as a block of CBC: it opens when the guess of the text is right.
class Relabeled : public testing::Test {
 protected:
  Bytes message_for(std::string_view guess) {
    const std::string token(as_text(sealed_));
    std::vector<Bytes> parts;
    for (std::size_t at = 0; at != std::string::npos;) {
      const auto dot = token.find('.', at);
      parts.push_back(from_base64url(token.substr(at, dot - at)).value());
      at = dot == std::string::npos ? dot : dot + 1;
    }
    const std::string der = test::cbc_message(key_.spki, "");
    Bytes message(der.begin(), der.end());
    const auto put = [&](const Bytes& after, const Bytes& bytes) {
      const auto at = std::search(message.begin(), message.end(), after.begin(), after.end());
      ASSERT_NE(at, message.end());
      std::copy(bytes.begin(), bytes.end(), at + static_cast<std::ptrdiff_t>(after.size()));
    };
    put({0x04, 0x82, 0x01, 0x00}, parts[1]);
    Bytes counter = parts[2];
    counter.insert(counter.end(), {0, 0, 0, 2});
    for (auto& byte : counter) byte ^= kBlock;  // what decrypts is then nothing but padding
    put({0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2A, 0x04, kBlock}, counter);
    for (std::size_t i = 0; i < kBlock; ++i) {
      message[message.size() - kBlock + i] =
          static_cast<std::uint8_t>(parts[3][i] ^ static_cast<std::uint8_t>(guess[i]));
    }
    return message;
  }

  test::SoftwareKeys& keys_ = test::shared_keys();
  const PublicKeyInfo key_ =
      test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256});
  const Bytes sealed_ = seal_jwe(key_, ContentEncryption::kA256Gcm, secret("password=hunter2"));
};

TEST_F(Relabeled, Fault156_AJwesWrappedKeyConfirmsNoGuessOfItsText) {
  PublicKeyInfo legacy = key_;
  legacy.accepts_cbc = true;
  EXPECT_EQ(code_of([&] { open(keys_, legacy, message_for("password=hunter2")); }), Code::kOk)
      << "control: without separation a right guess opens";
  EXPECT_EQ(code_of([&] { open(keys_, legacy, message_for("password=letmein")); }), Code::kInput);
  const int before = keys_.calls().total();
  for (const char* guess : {"password=hunter2", "password=letmein"})
    EXPECT_EQ(code_of([&] { open(keys_, key_, message_for(guess)); }), Code::kUnsupported);
  EXPECT_EQ(keys_.calls().total(), before) << "the token was asked";
}

}  // namespace
}  // namespace keyagent::envelope
