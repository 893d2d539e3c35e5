// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 176: one rule finds the encoding of an envelope, whatever stands around it.

#include "agent/envelope/container.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

using test::secret;
using test::text_of;

Bytes joined(std::initializer_list<ByteView> parts) {
  Bytes out;
  for (const auto part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes with_crlf(ByteView text) {
  Bytes out;
  for (const auto byte : text) {
    if (byte == '\n') out.push_back('\r');
    out.push_back(byte);
  }
  return out;
}

class Container : public testing::Test {
 protected:
  void expect_opens(ByteView envelope, Format format) {
    const auto header = inspect(envelope);
    EXPECT_EQ(header.format, format);
    EXPECT_EQ(text_of(open(keys_, key_, envelope)), "hello");
  }
  void expect_refused(ByteView envelope, const std::string& words, Code code = Code::kInput) {
    try {
      open(keys_, key_, envelope);
      ADD_FAILURE() << "opened";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr(words));
    }
  }

  test::SoftwareKeys& keys_ = test::shared_keys();
  const PublicKeyInfo key_ =
      test::shared_key({KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw});
  const Bytes der_ = seal_cms(key_, ContentEncryption::kA256Gcm, secret("hello"));
  const Bytes pem_ = armor_cms(der_);
  const Bytes jwe_ = seal_jwe(key_, ContentEncryption::kA256Gcm, secret("hello"));
};

TEST_F(Container, Fault176_PemOpensWithWhatOpensslReadsAroundIt) {
  for (const std::string before : {"", "\n", "\r\n\r\n", "\xEF\xBB\xBF", "\xEF\xBB\xBF\n",
                                   "Sealed for web1\n", "0042 ticket\n"}) {
    SCOPED_TRACE(before);
    expect_opens(joined({as_bytes(before), pem_}), Format::kCms);
    expect_opens(joined({as_bytes(before), with_crlf(pem_)}), Format::kCms);
  }
  expect_opens(joined({pem_, as_bytes("-- \nbackup team\n")}), Format::kCms);
  EXPECT_TRUE(inspect(pem_).armored);
  EXPECT_FALSE(inspect(der_).armored);
}

TEST_F(Container, Fault176_WhiteSpaceAfterDerIsNotPartOfIt) {
  for (const std::string after : {"", "\n", "\r\n", " \n\n"})
    expect_opens(joined({der_, as_bytes(after)}), Format::kCms);
  expect_refused(joined({der_, as_bytes("x")}), "malformed CMS");
  expect_refused(joined({der_, der_}), "malformed CMS");
}

TEST_F(Container, Fault176_WhiteSpaceAndAByteOrderMarkAroundAJweAreNotPartOfIt) {
  for (const std::string before : {"", "\n", "  ", "\t", "\r\n", "\xEF\xBB\xBF", "\xEF\xBB\xBF "}) {
    for (const std::string after : {"", "\n", "\r\n", " \n", "\n\n\n", "\t"})
      expect_opens(joined({as_bytes(before), jwe_, as_bytes(after)}), Format::kJwe);
  }
  Bytes broken = jwe_;
  broken.insert(broken.begin() + 10, '\n');
  expect_refused(broken, "malformed JWE");
}

TEST_F(Container, Fault176_OtherEncodingsAreNamed) {
  Bytes utf16{0xFF, 0xFE};
  for (const auto byte : jwe_) {
    utf16.push_back(byte);
    utf16.push_back(0);
  }
  expect_refused(utf16, "UTF-16");
  expect_refused(ByteView(utf16).subspan(2), "UTF-16");
  expect_refused(as_bytes("Content-Type: application/pkcs7-mime\n\nMII"), "S/MIME",
                 Code::kUnsupported);
  expect_refused(joined({pem_, pem_}), "several messages");
  const std::string certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
  expect_refused(as_bytes(certificate), "a label other than");
  expect_refused(joined({as_bytes(certificate), pem_}), "a label other than");
  expect_refused(ByteView(pem_).first(pem_.size() - 30), "truncated or corrupt");
  expect_refused(as_bytes(" \n"), "");
}

// RELIABILITY 177: RFC 7093 §2.
TEST_F(Container, Fault177_ARecipientIsFoundByEachIdentifierOfItsKey) {
  const auto own = key_identifiers(key_.spki);
  ASSERT_EQ(own.size(), 5U);
  EXPECT_EQ(own.front(), subject_key_identifier(key_.spki));
  for (std::size_t i = 1; i < 4; ++i) {  // of the same length: written over the one that is there
    Bytes sealed = der_;
    const auto at = std::search(sealed.begin(), sealed.end(), own[0].begin(), own[0].end());
    ASSERT_NE(at, sealed.end());
    std::copy(own[i].begin(), own[i].end(), at);
    EXPECT_EQ(inspect(sealed).recipient_ids.front(), own[i]);
    expect_opens(sealed, Format::kCms);
  }
}

TEST_F(Container, Fault177_TheOnlyRecipientOpensUnderAnyIdentifierWhereTheCallerNamesTheKey) {
  Bytes sealed = der_;
  const Bytes own = subject_key_identifier(key_.spki);
  const auto at = std::search(sealed.begin(), sealed.end(), own.begin(), own.end());
  ASSERT_NE(at, sealed.end());
  std::fill_n(at, own.size(), 0x42);
  EXPECT_EQ(text_of(open(keys_, key_, sealed, true)), "hello");
  expect_refused(sealed, "another key");
}

}  // namespace
}  // namespace keyagent::envelope
