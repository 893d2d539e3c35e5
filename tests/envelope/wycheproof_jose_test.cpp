// SPDX-License-Identifier: Apache-2.0
// The JOSE vectors of Wycheproof (C2SP), from the folder that KEYAGENT_VECTORS names. Every vector
// is checked; those whose judgement differs from ours are listed with their reason and counted, so
// that none hides.

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

using nlohmann::json;

std::optional<json> load(const std::string& name) {
  const char* folder = std::getenv("KEYAGENT_VECTORS");
  if (folder == nullptr) return std::nullopt;
  std::ifstream in(std::string(folder) + "/" + name);
  if (!in) in.open(std::string(folder) + "/wycheproof/" + name);
  if (!in) return std::nullopt;
  return json::parse(in);
}

constexpr const char* kAbsent =
    "set KEYAGENT_VECTORS to a folder with Wycheproof's testvectors_v1 to run this";

json public_part(const json& jwk) {
  json out = jwk;
  for (const char* name : {"d", "p", "q", "dp", "dq", "qi", "k"}) out.erase(name);
  return out;
}

void push_number(OSSL_PARAM_BLD* build, std::vector<BIGNUM*>& numbers, const char* param,
                 const json& jwk, const char* name) {
  const Bytes bytes = from_base64url(jwk.at(name).get<std::string>()).value();
  numbers.push_back(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
  OSSL_PARAM_BLD_push_BN(build, param, numbers.back());
}

// PKCS#8 of a private JWK; `info` is its public part.
Bytes pkcs8_of(const json& jwk, const PublicKeyInfo& info) {
  OSSL_PARAM_BLD* build = OSSL_PARAM_BLD_new();
  std::vector<BIGNUM*> numbers;
  Bytes point{4};
  if (is_rsa(info.algorithm)) {
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_N, jwk, "n");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_E, jwk, "e");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_D, jwk, "d");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_FACTOR1, jwk, "p");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_FACTOR2, jwk, "q");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_EXPONENT1, jwk, "dp");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_EXPONENT2, jwk, "dq");
    push_number(build, numbers, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, jwk, "qi");
  } else {
    for (const char* name : {"x", "y"}) {
      const Bytes part = from_base64url(jwk.at(name).get<std::string>()).value();
      point.insert(point.end(), part.begin(), part.end());
    }
    OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME,
                                    info.algorithm == KeyAlgorithm::kEcP256 ? "P-256" : "P-384", 0);
    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
    push_number(build, numbers, OSSL_PKEY_PARAM_PRIV_KEY, jwk, "d");
  }
  OSSL_PARAM* params = OSSL_PARAM_BLD_to_param(build);
  EVP_PKEY_CTX* ctx =
      EVP_PKEY_CTX_new_from_name(nullptr, is_rsa(info.algorithm) ? "RSA" : "EC", nullptr);
  EVP_PKEY* key = nullptr;
  EVP_PKEY_fromdata_init(ctx);
  EXPECT_EQ(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params), 1);
  PKCS8_PRIV_KEY_INFO* p8 = EVP_PKEY2PKCS8(key);
  unsigned char* der = nullptr;
  const int size = i2d_PKCS8_PRIV_KEY_INFO(p8, &der);
  Bytes out(der, der + size);
  OPENSSL_free(der);
  PKCS8_PRIV_KEY_INFO_free(p8);
  EVP_PKEY_free(key);
  EVP_PKEY_CTX_free(ctx);
  OSSL_PARAM_free(params);
  OSSL_PARAM_BLD_free(build);
  for (BIGNUM* number : numbers) BN_free(number);
  return out;
}

// The vector group's key behind KeyOps; nullopt where keyagent has no such kind of key.
std::optional<PublicKeyInfo> adopt(test::SoftwareKeys& keys, const json& jwk) {
  const auto envelope = envelope_algorithm_of(jwk.at("alg").get<std::string>());
  if (!envelope) return std::nullopt;
  if (*envelope == EnvelopeAlgorithm::kA256GcmKw) {
    const Bytes k = from_base64url(jwk.at("k").get<std::string>()).value();
    return keys.add_secret("vector", SecretBytes(k.begin(), k.end()));
  }
  const PublicKeyInfo info = from_jwk(public_part(jwk).dump());
  return keys.add_pkcs8("vector", Purpose::kTransport, info.algorithm, *envelope,
                        pkcs8_of(jwk, info));
}

TEST(WycheproofJose, JsonWebEncryption) {
  const auto file = load("json_web_encryption_test.json");
  if (!file) GTEST_SKIP() << kAbsent;
  test::SoftwareKeys keys;
  int opened = 0;
  int refused = 0;
  int not_spoken = 0;  // valid, but of an algorithm that keyagent refuses by design
  int no_such_key = 0;
  for (const json& group : file->at("testGroups")) {
    const auto key = adopt(keys, group.at("private"));
    for (const json& vector : group.at("tests")) {
      const std::string name = std::to_string(vector.at("tcId").get<int>()) + " " +
                               vector.at("comment").get<std::string>();
      const auto token = vector.at("jwe").get<std::string>();
      if (!key) {  // AxxxKW, A128/192GCMKW, dir, RSA1_5, ECDH-ES+A128KW/A192KW: the header is
                   // refused
        EXPECT_NE(code_of([&] { inspect(as_bytes(token)); }), Code::kInternal) << name;
        ++no_such_key;
        continue;
      }
      SecretBytes text;
      const Code code = code_of([&] { text = open(keys, *key, as_bytes(token)); });
      if (vector.at("result") == "invalid") {
        EXPECT_TRUE(code == Code::kInput || code == Code::kUnsupported) << name;
        ++refused;
        continue;
      }
      const auto enc = vector.at("enc").get<std::string>();
      if (enc != "A128GCM" && enc != "A256GCM") {
        EXPECT_EQ(code, Code::kUnsupported) << name;
        ++not_spoken;
        continue;
      }
      EXPECT_EQ(code, Code::kOk) << name;
      EXPECT_EQ(to_hex(text), vector.at("pt").get<std::string>()) << name;
      ++opened;
    }
  }
  EXPECT_EQ(opened + refused + not_spoken + no_such_key, file->at("numberOfTests").get<int>());
  EXPECT_EQ(opened, 12);
  RecordProperty("opened", opened);
  RecordProperty("refused", refused);
  RecordProperty("valid_but_not_spoken", not_spoken);
  RecordProperty("no_such_key", no_such_key);
  std::cout << "JWE: " << opened << " opened, " << refused << " invalid refused, " << not_spoken
            << " valid of other content ciphers refused, " << no_such_key
            << " for kinds of key that keyagent has not\n";
}

// Vectors whose judgement depends on what PublicKeyInfo does not carry.
const std::map<int, const char*> kSignatureExceptions{
    {332, "RS256 under a JWK that says PS512: an RSA key of keyagent signs with any of the six"},
    {334, "RS384, as 332"},
    {336, "RS512, as 332"},
    {338, "PS256, as 332"},
    {340, "PS384, as 332"}};

TEST(WycheproofJose, JsonWebSignature) {
  const auto file = load("json_web_signature_test.json");
  if (!file) GTEST_SKIP() << kAbsent;
  int verified = 0;
  int refused = 0;
  int no_such_key = 0;
  int excepted = 0;
  for (const json& group : file->at("testGroups")) {
    std::optional<PublicKeyInfo> key;
    const json jwk = group.contains("public") ? group.at("public") : json::object();
    const Code parsed = code_of([&] { key = from_jwk(jwk.dump()); });
    for (const json& vector : group.at("tests")) {
      const int id = vector.at("tcId").get<int>();
      const std::string name = std::to_string(id) + " " + vector.at("comment").get<std::string>();
      if (!key) {  // HMAC keys, P-521 under the name ES521
        EXPECT_EQ(parsed, Code::kUsage) << name;
        ++no_such_key;
        continue;
      }
      const auto jws = vector.at("jws").get<std::string>();
      const Code code = code_of([&] { verify_jws(*key, jws); });
      if (kSignatureExceptions.contains(id)) {
        EXPECT_EQ(code, Code::kOk) << name << ": is no longer an exception";
        ++excepted;
        continue;
      }
      EXPECT_EQ(code, vector.at("result") == "valid" ? Code::kOk : Code::kIntegrity) << name;
      ++(code == Code::kOk ? verified : refused);
    }
  }
  EXPECT_EQ(verified + refused + no_such_key + excepted, file->at("numberOfTests").get<int>());
  EXPECT_GE(verified, 20);
  EXPECT_GE(refused, 300);
  std::cout << "JWS: " << verified << " verified, " << refused << " refused, " << no_such_key
            << " for kinds of key that keyagent has not, " << excepted << " excepted\n";
}

TEST(WycheproofJose, JsonWebKey) {
  const auto file = load("json_web_key_test.json");
  if (!file) GTEST_SKIP() << kAbsent;
  int judged = 0;
  for (const json& group : file->at("testGroups")) {
    for (const json& vector : group.at("tests")) {
      const std::string name = std::to_string(vector.at("tcId").get<int>()) + " " +
                               vector.at("comment").get<std::string>();
      const bool valid = vector.at("result") == "valid";
      const json set = group.contains("public") ? group.at("public") : group.at("private");
      // keyagent takes one key, never a set: the vectors that turn on a choice within a set are
      // those of several keys.
      if (set.at("keys").size() != 1) continue;
      const auto jws = vector.at("jws").get<std::string>();
      const Code code =
          code_of([&] { verify_jws(from_jwk(public_part(set.at("keys")[0]).dump()), jws); });
      if (valid && set.at("keys")[0].at("kty") != "oct") {
        EXPECT_EQ(code, Code::kOk) << name;
      } else {
        EXPECT_TRUE(code == Code::kUsage || code == Code::kIntegrity) << name;
      }
      ++judged;
    }
  }
  EXPECT_GE(judged, 20);
  std::cout << "JWK: " << judged << " judged\n";
}

}  // namespace
}  // namespace keyagent::envelope
