// SPDX-License-Identifier: Apache-2.0
// JWE compact: round trips, what is refused before the token, and that nothing but the sealed bytes
// opens.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

using test::all_keys;
using test::fails_as_input_or_unsupported;
using test::secret;
using test::text_of;

std::vector<std::string> parts_of(const Bytes& token) {
  std::vector<std::string> parts(1);
  for (const auto c : token) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += static_cast<char>(c);
    }
  }
  return parts;
}

Bytes join(const std::vector<std::string>& parts) {
  Bytes out;
  for (const auto& part : parts) {
    if (&part != &parts.front()) out.push_back('.');
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

// The token with its header replaced by `json`, other parts kept.
Bytes with_header(const Bytes& token, const std::string& json) {
  auto parts = parts_of(token);
  parts[0] = to_base64url(as_bytes(json));
  return join(parts);
}

std::string header_of(const Bytes& token) {
  const Bytes bytes = from_base64url(parts_of(token)[0]).value();
  return {bytes.begin(), bytes.end()};
}

class JweOfEveryKey : public testing::TestWithParam<test::KeyCase> {
 protected:
  test::SoftwareKeys& keys_ = test::shared_keys();
  PublicKeyInfo key_ = test::shared_key(GetParam());
};

TEST_P(JweOfEveryKey, R4_RoundTripOverSizesAndContentEncryptions) {
  for (const auto enc : {ContentEncryption::kA128Gcm, ContentEncryption::kA256Gcm}) {
    for (const std::size_t size : {0U, 1U, 15U, 16U, 17U, 1000U, 65537U, 131072U}) {
      const SecretBytes text = random_secret(size);
      const Bytes sealed = seal_jwe(keys_, key_, enc, text);
      ASSERT_LE(sealed.size(), kMaxEnvelope);
      EXPECT_EQ(inspect(sealed).kid, key_.kid.text());
      EXPECT_EQ(inspect(sealed).algorithm, key_.envelope);
      EXPECT_EQ(open(keys_, key_, sealed), text) << size;
    }
  }
}

TEST_P(JweOfEveryKey, R4_EveryFlippedBitFailsWithoutAPlaintext) {
  const Bytes sealed =
      seal_jwe(keys_, key_, ContentEncryption::kA256Gcm, secret("a credential of some length"));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    Bytes bad = sealed;
    bad[i] ^= static_cast<std::uint8_t>(1U << (i % 7));  // the eighth bit never is base64url
    EXPECT_TRUE(fails_as_input_or_unsupported(keys_, key_, bad)) << "byte " << i;
  }
}

TEST_P(JweOfEveryKey, R4_EveryFlippedBitOfTheDecodedPartsFailsAlike) {
  const Bytes sealed = seal_jwe(keys_, key_, ContentEncryption::kA128Gcm, secret("credential"));
  const auto parts = parts_of(sealed);
  for (std::size_t part = 1; part < 5; ++part) {
    const Bytes bytes = from_base64url(parts[part]).value();
    for (std::size_t i = 0; i < bytes.size(); i += part == 1 ? 7 : 1) {
      Bytes bad = bytes;
      bad[i] ^= 0x10;
      auto changed = parts;
      changed[part] = to_base64url(bad);
      EXPECT_EQ(code_of([&] { open(keys_, key_, join(changed)); }), Code::kInput);
    }
  }
}

TEST_P(JweOfEveryKey, SealedTwiceDiffersInEverythingRandom) {
  const Bytes a = seal_jwe(keys_, key_, ContentEncryption::kA256Gcm, secret("same"));
  const Bytes b = seal_jwe(keys_, key_, ContentEncryption::kA256Gcm, secret("same"));
  EXPECT_NE(parts_of(a)[2], parts_of(b)[2]);
  EXPECT_NE(parts_of(a)[3], parts_of(b)[3]);
}

INSTANTIATE_TEST_SUITE_P(Keys, JweOfEveryKey, testing::ValuesIn(all_keys()), test::case_name);

class Jwe : public testing::Test {
 protected:
  void expect_refused_untouched(const Bytes& token, Code code) {
    const int before = keys_.calls().total();
    EXPECT_EQ(code_of([&] { open(keys_, key_, token); }), code) << as_text(token);
    EXPECT_EQ(code_of([&] { inspect(token); }), code);
    EXPECT_EQ(keys_.calls().total(), before) << "the token was asked";
  }

  test::SoftwareKeys& keys_ = test::shared_keys();
  PublicKeyInfo key_ = test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256});
  Bytes sealed_ = seal_jwe(key_, ContentEncryption::kA256Gcm, secret("credential"));
};

TEST_F(Jwe, Fault100_AlgorithmOfAnotherKindIsRefusedBeforeTheToken) {
  for (const char* alg : {"none", "RSA1_5", "dir", "A256KW", "RSA-OAEP-512", "PBES2-HS256+A128KW",
                          "ECDH-ES+A128KW", "", "rsa-oaep-256"}) {
    auto header = nlohmann::json::parse(header_of(sealed_));
    header["alg"] = alg;
    expect_refused_untouched(with_header(sealed_, header.dump()), Code::kUnsupported);
  }
}

TEST_F(Jwe, Fault100_AlgorithmIsTheKeysOwnNotTheHeaders) {
  auto header = nlohmann::json::parse(header_of(sealed_));
  header["alg"] = "RSA-OAEP";
  const int before = keys_.calls().total();
  EXPECT_EQ(code_of([&] { open(keys_, key_, with_header(sealed_, header.dump())); }),
            Code::kUnsupported);
  EXPECT_EQ(keys_.calls().total(), before);
}

TEST_F(Jwe, Fault101_Rsa15IsRefusedBeforeTheToken) {
  auto header = nlohmann::json::parse(header_of(sealed_));
  header["alg"] = "RSA1_5";
  expect_refused_untouched(with_header(sealed_, header.dump()), Code::kUnsupported);
}

TEST_F(Jwe, Fault105_CbcContentEncryptionIsRefusedBeforeTheToken) {
  for (const char* enc : {"A128CBC-HS256", "A256CBC-HS512", "A192GCM", "A256CBC"}) {
    auto header = nlohmann::json::parse(header_of(sealed_));
    header["enc"] = enc;
    expect_refused_untouched(with_header(sealed_, header.dump()), Code::kUnsupported);
  }
}

TEST_F(Jwe, CompressionAndCriticalExtensionsAreRefused) {
  auto header = nlohmann::json::parse(header_of(sealed_));
  header["zip"] = "DEF";
  expect_refused_untouched(with_header(sealed_, header.dump()), Code::kUnsupported);
  header.erase("zip");
  for (const auto& crit : {nlohmann::json{"exp"}, nlohmann::json{"keyagent"},
                           nlohmann::json{"keyagent", "exp"}, nlohmann::json::array()}) {
    header["crit"] = crit;  // "keyagent" is not in the header
    expect_refused_untouched(with_header(sealed_, header.dump()), Code::kUnsupported);
  }
}

TEST_F(Jwe, Fault158_BindingIsReadBackAndAuthenticated) {
  const Binding binding{"keys-example", "backup", 7, "web1"};
  const Bytes sealed = seal_jwe(key_, ContentEncryption::kA256Gcm, secret("credential"), binding);
  EXPECT_EQ(inspect(sealed).binding, binding);
  EXPECT_EQ(inspect(sealed_).binding, std::nullopt);
  EXPECT_EQ(text_of(open(keys_, key_, sealed)), "credential");
  auto header = nlohmann::json::parse(header_of(sealed));
  header["keyagent"]["credential"] = "high";
  EXPECT_EQ(code_of([&] { open(keys_, key_, with_header(sealed, header.dump())); }), Code::kInput);
  header = nlohmann::json::parse(header_of(sealed_));
  header["keyagent"] = nlohmann::json::parse(header_of(sealed))["keyagent"];
  EXPECT_EQ(code_of([&] { open(keys_, key_, with_header(sealed_, header.dump())); }), Code::kInput);
}

TEST_F(Jwe, Fault158_MalformedBindingsAreRefusedBeforeTheToken) {
  auto header = nlohmann::json::parse(header_of(sealed_));
  const nlohmann::json good{{"instance", "i"}, {"credential", "c"}, {"version", 1}, {"agent", "a"}};
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, nlohmann::json>>{{"instance", ""},
                                                           {"credential", 1},
                                                           {"version", 0},
                                                           {"version", -1},
                                                           {"version", "1"},
                                                           {"version", 1.5},
                                                           {"agent", std::string(129, 'a')},
                                                           {"other", "x"}}) {
    header["keyagent"] = good;
    header["keyagent"][name] = value;
    expect_refused_untouched(with_header(sealed_, header.dump()), Code::kInput);
  }
  header["keyagent"] = "backup";
  expect_refused_untouched(with_header(sealed_, header.dump()), Code::kInput);
}

TEST_F(Jwe, NameTwiceInTheHeaderIsMalformed) {
  std::string json = header_of(sealed_);
  json.insert(1, R"("alg":"RSA-OAEP-256",)");
  expect_refused_untouched(with_header(sealed_, json), Code::kInput);
  std::string nested = header_of(sealed_);
  nested.insert(1, R"("x":{"a":1,"a":2},)");
  expect_refused_untouched(with_header(sealed_, nested), Code::kInput);
}

TEST_F(Jwe, HeaderThatIsNotOneObjectIsMalformed) {
  const std::string good = header_of(sealed_);
  for (const std::string& json : std::vector<std::string>{
           std::string("[]"), std::string("\"x\""), std::string("null"), good + "x", " " + good,
           "\xEF\xBB\xBF" + good, good + good, good.substr(0, good.size() - 1), std::string(),
           R"({"alg":"RSA-OAEP-256","enc":"A256GCM","a":)" + std::string(9, '[') +
               std::string(9, ']') + "}",
           R"({"alg":["RSA-OAEP-256"],"enc":"A256GCM"})", R"({"enc":"A256GCM"})",
           R"({"alg":"RSA-OAEP-256","enc":"A256GCM","kid":7})",
           R"({"alg":"RSA-OAEP-256","enc":"A256GCM","a":"\uD800"})",
           "{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"a\":\"\xC3\x28\"}"}) {
    expect_refused_untouched(with_header(sealed_, json), Code::kInput);
  }
}

TEST_F(Jwe, PaddingAndForeignCharactersInBase64UrlAreMalformed) {
  for (const char* tail : {"=", "==", " ", "\t", "+", "/", "\n\n", "%3D"}) {
    const bool white = std::string_view(" \t\n").find(*tail) != std::string_view::npos;
    for (std::size_t part = 0; part < (white ? 4U : 5U); ++part) {
      auto parts = parts_of(sealed_);
      parts[part] += tail;
      expect_refused_untouched(join(parts), Code::kInput);
    }
  }
}

TEST_F(Jwe, NumberOfPartsIsFive) {
  auto parts = parts_of(sealed_);
  parts.pop_back();
  expect_refused_untouched(join(parts), Code::kInput);
  expect_refused_untouched(Bytes{}, Code::kInput);
  parts = parts_of(sealed_);
  parts.emplace_back();
  expect_refused_untouched(join(parts), Code::kInput);
}

TEST_F(Jwe, JsonSerializationIsRefusedWithTheFix) {
  try {
    inspect(as_bytes(R"({"protected":"e30","ciphertext":"","iv":"","tag":""})"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnsupported);
    EXPECT_THAT(e.what(), testing::HasSubstr("jose jwe enc -c"));
  }
}

TEST_F(Jwe, Fault104_LengthsAreCheckedBeforeTheToken) {
  const auto good = parts_of(sealed_);
  for (const std::size_t part : {2U, 4U}) {
    for (const int change : {-1, 1}) {
      auto parts = good;
      Bytes bytes = from_base64url(parts[part]).value();
      bytes.resize(bytes.size() + static_cast<std::size_t>(change));
      parts[part] = to_base64url(bytes);
      expect_refused_untouched(join(parts), Code::kInput);
    }
  }
  const int before = keys_.calls().total();
  auto parts = good;
  parts[1] = to_base64url(Bytes(255, 1));
  EXPECT_EQ(code_of([&] { open(keys_, key_, join(parts)); }), Code::kInput);
  EXPECT_EQ(keys_.calls().total(), before);
}

TEST_F(Jwe, OversizedEnvelopeAndPlaintextAreRefused) {
  expect_refused_untouched(Bytes(kMaxEnvelope + 1, 'A'), Code::kInput);
  EXPECT_EQ(
      code_of([&] { seal_jwe(key_, ContentEncryption::kA256Gcm, SecretBytes(kMaxPlaintext + 1)); }),
      Code::kUsage);
}

TEST_F(Jwe, KidOfAnotherKeyIsRefusedBeforeTheToken) {
  const auto other = test::shared_key({KeyAlgorithm::kRsa3072, EnvelopeAlgorithm::kRsaOaep256});
  const int before = keys_.calls().total();
  EXPECT_EQ(code_of([&] { open(keys_, other, sealed_); }), Code::kInput);
  // Of the same kind and size, so that the name alone tells them apart.
  PublicKeyInfo alike = key_;
  alike.kid = other.kid;
  EXPECT_EQ(code_of([&] { open(keys_, alike, sealed_); }), Code::kInput);
  EXPECT_EQ(keys_.calls().total(), before);
}

TEST_F(Jwe, LineFeedAfterTheTokenIsNotPartOfIt) {
  Bytes token = sealed_;
  token.push_back('\n');
  EXPECT_EQ(text_of(open(keys_, key_, token)), "credential");
}

TEST_F(Jwe, KeyThatOpensNothingCannotBeSealedTo) {
  PublicKeyInfo signer = key_;
  signer.envelope = EnvelopeAlgorithm::kNone;
  EXPECT_EQ(code_of([&] { seal_jwe(signer, ContentEncryption::kA256Gcm, secret("x")); }),
            Code::kUnsupported);
}

class JweAgreement : public Jwe {
 protected:
  JweAgreement() {
    key_ = test::shared_key({KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEs});
    sealed_ = seal_jwe(key_, ContentEncryption::kA256Gcm, secret("credential"));
  }
  Bytes with_epk(const std::function<void(nlohmann::json&)>& change) {
    auto header = nlohmann::json::parse(header_of(sealed_));
    change(header["epk"]);
    return with_header(sealed_, header.dump());
  }
};

TEST_F(JweAgreement, PointOffTheCurveFailsAsEverythingElseWithoutTheToken) {
  const Bytes bad = with_epk([](auto& epk) { epk["y"] = to_base64url(Bytes(32, 7)); });
  const int before = keys_.calls().total();
  try {
    open(keys_, key_, bad);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInput);
    EXPECT_EQ(std::string(e.what()), test::input_error_text());
  }
  EXPECT_EQ(keys_.calls().total(), before);
}

TEST_F(JweAgreement, MalformedEphemeralKeyIsRefused) {
  expect_refused_untouched(with_epk([](auto& epk) { epk.erase("x"); }), Code::kInput);
  expect_refused_untouched(with_epk([](auto& epk) { epk["x"] = to_base64url(Bytes(31, 1)); }),
                           Code::kInput);
  expect_refused_untouched(with_epk([](auto& epk) { epk["x"] = to_base64url(Bytes(33, 1)); }),
                           Code::kInput);
  expect_refused_untouched(with_epk([](auto& epk) { epk["crv"] = "P-521"; }), Code::kUnsupported);
  expect_refused_untouched(with_epk([](auto& epk) { epk["kty"] = "OKP"; }), Code::kUnsupported);
  expect_refused_untouched(with_epk([](auto& epk) { epk = "text"; }), Code::kInput);
}

TEST_F(JweAgreement, CurveOfAnotherKeyIsRefusedBeforeTheToken) {
  const auto p384 = test::shared_key({KeyAlgorithm::kEcP384, EnvelopeAlgorithm::kEcdhEs});
  auto header = nlohmann::json::parse(header_of(sealed_));
  header.erase("kid");
  const int before = keys_.calls().total();
  EXPECT_EQ(code_of([&] { open(keys_, p384, with_header(sealed_, header.dump())); }),
            Code::kUnsupported);
  EXPECT_EQ(keys_.calls().total(), before);
}

}  // namespace
}  // namespace keyagent::envelope
