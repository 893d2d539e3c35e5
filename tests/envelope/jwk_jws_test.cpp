// SPDX-License-Identifier: Apache-2.0
// JWK in and out, JWS, raw signatures.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

using nlohmann::json;

const std::vector<KeyAlgorithm> kSigners{KeyAlgorithm::kRsa2048, KeyAlgorithm::kEcP256,
                                         KeyAlgorithm::kEcP384, KeyAlgorithm::kEd25519};
const std::vector<SignatureAlgorithm> kSignatures{
    SignatureAlgorithm::kRs256, SignatureAlgorithm::kRs384, SignatureAlgorithm::kRs512,
    SignatureAlgorithm::kPs256, SignatureAlgorithm::kPs384, SignatureAlgorithm::kPs512,
    SignatureAlgorithm::kEs256, SignatureAlgorithm::kEs384, SignatureAlgorithm::kEdDsa};

PublicKeyInfo signer(KeyAlgorithm algorithm) {
  static std::map<KeyAlgorithm, PublicKeyInfo> made;
  auto it = made.find(algorithm);
  if (it == made.end()) {
    it = made.emplace(algorithm, test::shared_keys().add("s", Purpose::kSign, algorithm)).first;
  }
  return it->second;
}

TEST(Jwk, ComesBackAsTheSameKey) {
  std::vector<PublicKeyInfo> keys;
  for (const auto& wanted : test::public_keys()) keys.push_back(test::shared_key(wanted));
  for (const auto algorithm : kSigners) keys.push_back(signer(algorithm));
  for (const PublicKeyInfo& key : keys) {
    const PublicKeyInfo back = from_jwk(to_jwk(key));
    EXPECT_EQ(back.spki, key.spki);
    EXPECT_EQ(back.kid, key.kid);
    EXPECT_EQ(back.algorithm, key.algorithm);
    EXPECT_EQ(back.envelope, key.envelope);
    EXPECT_EQ(back.purpose, key.purpose);
  }
}

TEST(Jwk, ThumbprintIsThatOfRfc7638) {
  const auto key = from_jwk(
      R"({"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"})");
  EXPECT_EQ(key.kid.text(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

TEST(Jwk, WhatIsNotAUsablePublicKeyIsRefusedWithoutEcho) {
  const json good = json::parse(to_jwk(signer(KeyAlgorithm::kEcP256)));
  const auto with = [&](const char* name, const json& value) {
    json changed = good;
    changed[name] = value;
    return changed.dump();
  };
  const std::string x33 = to_base64url(Bytes(33, 1));
  const std::string x32 = to_base64url(Bytes(32, 1));
  for (const std::string& bad : std::vector<std::string>{"",
                                                         "[]",
                                                         "{}",
                                                         "null",
                                                         with("kty", "oct"),
                                                         with("kty", 1),
                                                         with("crv", "P-521"),
                                                         with("crv", "P-384"),
                                                         with("x", x33),
                                                         with("x", x32),
                                                         with("x", "=="),
                                                         with("alg", "none"),
                                                         with("alg", "ES384"),
                                                         with("alg", "RSA-OAEP"),
                                                         with("alg", ""),
                                                         with("use", "both"),
                                                         with("use", "enc"),
                                                         with("key_ops", "sign"),
                                                         with("key_ops", json{"deriveKey"}),
                                                         with("kid", to_base64url(Bytes(32, 1))),
                                                         with("kty", "RSA"),
                                                         with("kty", "OKP")}) {
    EXPECT_EQ(code_of([&] { from_jwk(bad); }), Code::kUsage) << bad;
  }
  try {
    from_jwk(with("d", "c2VjcmV0LXNjYWxhcg"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUsage);
    EXPECT_THAT(e.what(), testing::Not(testing::HasSubstr("c2VjcmV0")));
  }
}

TEST(Jwk, RsaOfImpossibleNumbersIsRefused) {
  const json good = json::parse(to_jwk(signer(KeyAlgorithm::kRsa2048)));
  for (const char* e : {"AQ", "Ag", "AAEAAQ", "", "A"}) {
    json bad = good;
    bad["e"] = e;
    EXPECT_EQ(code_of([&] { from_jwk(bad.dump()); }), Code::kUsage) << e;
  }
  json small = good;
  small["n"] = to_base64url(Bytes(128, 0xFF));
  EXPECT_EQ(code_of([&] { from_jwk(small.dump()); }), Code::kUsage);
}

TEST(Jwk, StorageKeyHasNone) {
  const auto storage = test::shared_key({KeyAlgorithm::kAes256, EnvelopeAlgorithm::kA256GcmKw});
  EXPECT_EQ(code_of([&] { to_jwk(storage); }), Code::kUsage);
}

TEST(Jws, EveryAlgorithmVerifiesAndNoOtherKeyDoes) {
  for (const auto kind : kSigners) {
    const PublicKeyInfo key = signer(kind);
    const PublicKeyInfo other = test::shared_keys().add("o", Purpose::kSign, kind);
    for (const auto algorithm : kSignatures) {
      if (!can_sign(kind, algorithm)) {
        EXPECT_EQ(code_of([&] { sign_jws(test::shared_keys(), key, algorithm, {}); }),
                  Code::kUnsupported);
        continue;
      }
      for (const std::string_view payload : {"", "payload"}) {
        const auto jws = sign_jws(test::shared_keys(), key, algorithm, as_bytes(payload));
        EXPECT_EQ(as_text(verify_jws(key, jws)), payload);
        EXPECT_EQ(code_of([&] { verify_jws(other, jws); }), Code::kIntegrity);
      }
    }
  }
}

TEST(Jws, EveryChangedCharacterIsRefused) {
  const PublicKeyInfo key = signer(KeyAlgorithm::kEcP256);
  const auto jws =
      sign_jws(test::shared_keys(), key, SignatureAlgorithm::kEs256, as_bytes("payload"));
  for (std::size_t i = 0; i < jws.size(); ++i) {
    std::string bad = jws;
    bad[i] = bad[i] == 'A' ? 'B' : 'A';
    EXPECT_EQ(code_of([&] { verify_jws(key, bad); }), Code::kIntegrity) << i;
  }
}

TEST(Jws, Fault100_NoneAndSwappedAlgorithmsAreRefused) {
  const PublicKeyInfo key = signer(KeyAlgorithm::kRsa2048);
  const auto jws =
      sign_jws(test::shared_keys(), key, SignatureAlgorithm::kPs256, as_bytes("payload"));
  const std::string rest = jws.substr(jws.find('.'));
  for (const char* header : {R"({"alg":"none"})", R"({"alg":"HS256"})", R"({"alg":"RS256"})",
                             R"({"alg":"ES256"})", R"({"alg":"PS256","crit":["b64"],"b64":false})",
                             R"({"alg":"PS256","alg":"PS256"})", "{}"}) {
    const std::string bad = to_base64url(as_bytes(header)) + rest;
    EXPECT_EQ(code_of([&] { verify_jws(key, bad); }), Code::kIntegrity) << header;
  }
  const std::string unsigned_jws = to_base64url(as_bytes(R"({"alg":"none"})")) + ".cGF5bG9hZA.";
  EXPECT_EQ(code_of([&] { verify_jws(key, unsigned_jws); }), Code::kIntegrity);
}

// A JWS over this header with a true signature: only the header can be refused.
std::string signed_with_header(const PublicKeyInfo& key, const std::string& header) {
  const std::string input =
      to_base64url(as_bytes(header)) + "." + to_base64url(as_bytes("payload"));
  return input + "." +
         to_base64url(test::shared_keys().sign(key.kid, SignatureAlgorithm::kEs256,
                                               sha256(as_bytes(input))));
}

TEST(Jws, Fault100_AHeaderIsRefusedThoughItsSignatureIsTrue) {
  const PublicKeyInfo key = signer(KeyAlgorithm::kEcP256);
  const PublicKeyInfo other = test::shared_keys().add("o", Purpose::kSign, KeyAlgorithm::kEcP256);
  const auto header = [](const json& members) {
    json all{{"alg", "ES256"}};
    all.update(members);
    return all.dump();
  };
  for (const json& good : {json::object(), json{{"kid", key.kid.text()}}, json{{"kid", "a name"}}})
    EXPECT_EQ(as_text(verify_jws(key, signed_with_header(key, header(good)))), "payload") << good;
  for (const json& bad : {json{{"kid", other.kid.text()}}, json{{"crit", {"exp"}}, {"exp", 1}},
                          json{{"crit", json::array()}}, json{{"crit", {"b64"}}, {"b64", true}}}) {
    EXPECT_EQ(code_of([&] { verify_jws(key, signed_with_header(key, header(bad))); }),
              Code::kIntegrity)
        << bad;
  }
  for (const char* alg : {"none", "HS256", "ES384", "RS256", ""}) {
    try {
      verify_jws(key, signed_with_header(key, header({{"alg", alg}})));
      ADD_FAILURE() << alg;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("\"alg\" is not one")) << alg;
    }
  }
}

TEST(Jws, KeyThatDoesNotSignVerifiesNothing) {
  PublicKeyInfo key = signer(KeyAlgorithm::kEcP256);
  const auto jws =
      sign_jws(test::shared_keys(), key, SignatureAlgorithm::kEs256, as_bytes("payload"));
  key.purpose = Purpose::kTransport;
  EXPECT_EQ(code_of([&] { verify_jws(key, jws); }), Code::kIntegrity);
}

TEST(VerifySignature, WrongLengthsAndKindsAreFalse) {
  const PublicKeyInfo key = signer(KeyAlgorithm::kEcP256);
  const Bytes digest = sha256(as_bytes("text"));
  const Bytes good = test::shared_keys().sign(key.kid, SignatureAlgorithm::kEs256, digest);
  EXPECT_TRUE(verify_signature(key.spki, SignatureAlgorithm::kEs256, digest, good));
  EXPECT_FALSE(verify_signature(key.spki, SignatureAlgorithm::kRs256, digest, good));
  EXPECT_FALSE(verify_signature(key.spki, SignatureAlgorithm::kEs256, Bytes(31), good));
  EXPECT_FALSE(verify_signature(key.spki, SignatureAlgorithm::kEs256, digest, Bytes(64)));
  EXPECT_FALSE(verify_signature(key.spki, SignatureAlgorithm::kEs256, digest, ecdsa_to_der(good)));
}

// RELIABILITY 177: only the key material is required (RFC 7517 §4).
TEST(Jwk, Fault177_OptionalMembersMayBeMissingAndTheCallerGivesThePurpose) {
  const auto key = test::shared_key({KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw});
  auto jwk = nlohmann::json::parse(to_jwk(key));
  for (const char* name : {"alg", "use", "kid"}) jwk.erase(name);
  const auto opener = from_jwk(jwk.dump(), Purpose::kTransport);
  EXPECT_EQ(opener.kid, key.kid);
  EXPECT_EQ(opener.purpose, Purpose::kTransport);
  EXPECT_EQ(opener.envelope, EnvelopeAlgorithm::kEcdhEsA256Kw);
  const auto signer = from_jwk(jwk.dump(), Purpose::kSign);
  EXPECT_EQ(signer.purpose, Purpose::kSign);
  EXPECT_EQ(signer.envelope, EnvelopeAlgorithm::kNone);
  EXPECT_EQ(code_of([&] { from_jwk(to_jwk(key), Purpose::kSign); }), Code::kUsage)
      << "its `use` is encryption";
  jwk["use"] = "sig";
  EXPECT_EQ(code_of([&] { from_jwk(jwk.dump(), Purpose::kTransport); }), Code::kUsage);
  EXPECT_EQ(code_of([&] { from_jwk(R"({"keys":[)" + jwk.dump() + "]}"); }), Code::kUsage);
}

}  // namespace
}  // namespace keyagent::envelope
