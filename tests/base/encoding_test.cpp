// SPDX-License-Identifier: Apache-2.0
#include "agent/base/encoding.h"

#include <gtest/gtest.h>

#include "agent/base/error.h"

namespace keyagent {
namespace {

TEST(Base64url, Rfc4648VectorsWithoutPadding) {
  const std::pair<std::string_view, std::string_view> kVectors[] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : kVectors) {
    EXPECT_EQ(to_base64url(as_bytes(plain)), text);
    ASSERT_TRUE(from_base64url(text)) << text;
    EXPECT_EQ(as_text(*from_base64url(text)), plain);
  }
  EXPECT_EQ(to_base64url(Bytes{0xFB, 0xFF}), "-_8");
  EXPECT_EQ(from_base64url("-_8"), (Bytes{0xFB, 0xFF}));
}

TEST(Base64url, OneTextForOneValue) {
  for (const char* text : {"Zg==", "Zh", "Zm9", "Z", "Zg ", " Zg", "Z g", "Zg\n", "+_8", "-/8",
                           "Zm9v=", "Zm9vYg\0", "\xC3\xA4"}) {
    EXPECT_FALSE(from_base64url(text) && to_base64url(*from_base64url(text)) != text) << text;
  }
  for (const char* text : {"Zg==", "Zh", "Zm9", "Z", "Zg ", "Z g", "Zg\n", "+_8", "-/8",
                           "Zm9v=", "Zm+v", "Zm/v", "++++", "Zm8=Zm9v"}) {
    EXPECT_FALSE(from_base64url(text)) << text;
  }
  EXPECT_FALSE(from_base64url(std::string_view("Zg\0\0", 4)));
}

TEST(Base64url, RoundTripOfEveryLength) {
  for (std::size_t size = 0; size < 200; ++size) {
    const Bytes bytes = random_bytes(size);
    EXPECT_EQ(from_base64url(to_base64url(bytes)), bytes);
  }
}

TEST(Hex, RefusesOddLengthAndForeignCharacters) {
  EXPECT_EQ(to_hex(Bytes{0x00, 0xAF}), "00af");
  EXPECT_EQ(from_hex("00aF"), (Bytes{0x00, 0xAF}));
  for (const char* text : {"0", "0g", "0 ", " 00", "0x00"}) EXPECT_FALSE(from_hex(text)) << text;
}

TEST(Escape, Fault141_WhatMovesTheCursorOrForgesALineIsEscaped) {
  EXPECT_EQ(escape_controls("plain \\ \" text"), "plain \\ \" text");
  EXPECT_EQ(escape_controls("a\nb\x1b[31m\x7f"), "a\\u000ab\\u001b[31m\\u007f");
  EXPECT_EQ(escape_controls("\xC2\x9B"
                            "31m"),
            "\\u009b31m");  // C1 CSI
  EXPECT_EQ(escape_controls("\xE2\x80\xAE"
                            "txt"),
            "\\u202etxt");                                              // right-to-left override
  EXPECT_EQ(escape_controls("\xFF\xC3"), "\\u00ff\\u00c3");             // not UTF-8
  EXPECT_EQ(escape_controls("\xED\xA0\x80"), "\\u00ed\\u00a0\\u0080");  // a surrogate
  EXPECT_EQ(escape_controls("\xC0\x8A"), "\\u00c0\\u008a");             // overlong newline
  EXPECT_EQ(escape_controls("Zürich \xF0\x9F\x94\x91"), "Zürich \xF0\x9F\x94\x91");
  std::string json;
  append_json_string(json, std::string_view("a\"b\\\0", 5));
  EXPECT_EQ(json, R"("a\"b\\\u0000")");
}

TEST(Sha256, Fips180Vector) {
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(EqualSecret, ComparesContentAndLength) {
  EXPECT_TRUE(equal_secret(as_bytes("same"), as_bytes("same")));
  EXPECT_FALSE(equal_secret(as_bytes("same"), as_bytes("sama")));
  EXPECT_FALSE(equal_secret(as_bytes("same"), as_bytes("sam")));
}

// The example of RFC 7638 §3.1 and of RFC 8037 appendix A.3.
TEST(JwkThumbprint, ExamplesOfTheStandards) {
  const Bytes n = *from_base64url(
      "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
      "BJECPebWKRX"
      "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"
      "FDW2QvzqY368QQMicAtaS"
      "qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"
      "bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksIN"
      "HaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw");
  ASSERT_EQ(n.size(), 256U);
  Bytes rsa = *from_hex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100");
  rsa.insert(rsa.end(), n.begin(), n.end());
  const Bytes exponent = *from_hex("0203010001");
  rsa.insert(rsa.end(), exponent.begin(), exponent.end());
  EXPECT_EQ(jwk_thumbprint(rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");

  Bytes okp = *from_hex("302a300506032b6570032100");
  const Bytes x = *from_base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
  okp.insert(okp.end(), x.begin(), x.end());
  EXPECT_EQ(jwk_thumbprint(okp), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
  okp.push_back(0);
  EXPECT_THROW(jwk_thumbprint(okp), Error);
  EXPECT_THROW(jwk_thumbprint({}), Error);
}

TEST(EcdsaDer, Fault064_FixedWidthAndDerReadBack) {
  for (const std::size_t field : {32U, 48U}) {
    for (int round = 0; round < 300; ++round) {
      Bytes rs = random_bytes(2 * field);
      if (round % 3 == 0) rs[0] = 0;                      // shorter r
      if (round % 5 == 0) rs[field] = rs[field + 1] = 0;  // shorter s
      const Bytes der = ecdsa_to_der(rs);
      EXPECT_EQ(ecdsa_from_der(der, field), rs) << to_hex(der);
    }
  }
  EXPECT_THROW(ecdsa_to_der(Bytes(63, 1)), Error);
}

TEST(EcdsaDer, Fault064_OnlyCanonicalDerOfTwoPositiveIntegers) {
  EXPECT_NO_THROW(ecdsa_from_der(*from_hex("3006020101020102"), 32));
  for (const char* bad :
       {"", "30", "3000", "30060201010201", "300602010102010203", "3106020101020102",
        "3007020101020102", "308106020101020102", "3006020100020102", "3006020181020102",
        "300702020001020102", "3006030101020102", "300402000202", "3005020101020000"}) {
    EXPECT_THROW(ecdsa_from_der(*from_hex(bad), 32), Error) << bad;
  }
  Bytes wide{0x30, 38, 0x02, 33};  // 33 significant bytes do not fit a field of 32
  wide.insert(wide.end(), 33, 0x11);
  const Bytes one{0x02, 0x01, 0x01};
  wide.insert(wide.end(), one.begin(), one.end());
  EXPECT_THROW(ecdsa_from_der(wide, 32), Error);
  EXPECT_NO_THROW(ecdsa_from_der(wide, 48));
}

}  // namespace
}  // namespace keyagent
