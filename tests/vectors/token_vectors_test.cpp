// SPDX-License-Identifier: Apache-2.0
// Project Wycheproof's vectors through a SoftHSM token and through the verification that stands
// behind it. The folder is named by KEYAGENT_VECTORS; without it these tests say so and skip. What
// the token cannot do is an exception with its cause, counted and shown.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/key_template.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::pkcs11 {
namespace {

using Json = nlohmann::json;

Bytes hex(const Json& value) {
  return *from_hex(value.get<std::string>());
}

Bytes unsigned_hex(const Json& value) {
  Bytes bytes = hex(value);
  while (!bytes.empty() && bytes.front() == 0) bytes.erase(bytes.begin());
  return bytes;
}

class TokenVectors : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("KEYAGENT_VECTORS");
    if (folder == nullptr || *folder == '\0')
      GTEST_SKIP() << "KEYAGENT_VECTORS names no folder of Wycheproof vectors";
    folder_ = folder;
    token_ = hsm_.open();
  }

  // Calls `judge` for each test of a file; it returns the cause of an exception, or "" for a vector
  // that was checked.
  void for_each(const std::string& file,
                const std::function<std::string(const Json& group, const Json& test)>& judge) {
    const Json all = Json::parse(std::ifstream(folder_ + "/" + file));
    std::map<std::string, int> exceptions;
    int judged = 0;
    for (const auto& group : all.at("testGroups")) {
      for (const auto& test : group.at("tests")) {
        SCOPED_TRACE(file + " tcId " + std::to_string(test.at("tcId").get<int>()) + " " +
                     test.value("comment", ""));
        const std::string cause = judge(group, test);
        cause.empty() ? ++judged : ++exceptions[cause];
      }
    }
    std::cout << file << ": " << judged << " judged";
    for (const auto& [cause, count] : exceptions)
      std::cout << "; " << count << " excepted: " << cause;
    std::cout << "\n";
    EXPECT_GT(judged, 0);
  }

  // Puts a key into the token under a fresh id.
  Bytes import(Session& session, CK_OBJECT_CLASS object_class, CK_KEY_TYPE type,
               CK_ATTRIBUTE_TYPE usage, const std::map<CK_ATTRIBUTE_TYPE, Bytes>& values) {
    const Bytes id = random_bytes(16);
    Attributes wanted;
    wanted.add_ulong(CKA_CLASS, object_class)
        .add_ulong(CKA_KEY_TYPE, type)
        .add_bool(CKA_TOKEN, true)
        .add_bool(CKA_PRIVATE, true);
    wanted.add_bool(CKA_SENSITIVE, true).add_bool(usage, true).add(CKA_ID, id);
    if (usage == CKA_ENCRYPT) wanted.add_bool(CKA_DECRYPT, true);
    for (const auto& [attribute, value] : values) wanted.add(attribute, value);
    CK_OBJECT_HANDLE handle = 0;
    check(session.c().C_CreateObject(session.handle(), wanted.data(), wanted.size(), &handle),
          "C_CreateObject");
    return id;
  }

  Bytes import_rsa(Session& session, CK_ATTRIBUTE_TYPE usage, const Json& key) {
    std::map<CK_ATTRIBUTE_TYPE, Bytes> values{
        {CKA_MODULUS, unsigned_hex(key.at("modulus"))},
        {CKA_PUBLIC_EXPONENT, unsigned_hex(key.at("publicExponent"))},
        {CKA_PRIVATE_EXPONENT, unsigned_hex(key.at("privateExponent"))}};
    const std::pair<CK_ATTRIBUTE_TYPE, const char*> parts[] = {{CKA_PRIME_1, "prime1"},
                                                               {CKA_PRIME_2, "prime2"},
                                                               {CKA_EXPONENT_1, "exponent1"},
                                                               {CKA_EXPONENT_2, "exponent2"},
                                                               {CKA_COEFFICIENT, "coefficient"}};
    for (const auto& [attribute, name] : parts) {
      if (key.contains(name)) values[attribute] = unsigned_hex(key.at(name));
    }
    return import(session, CKO_PRIVATE_KEY, CKK_RSA, usage, values);
  }

  // Of whatever length; a refusal by the native path's code is a no.
  std::optional<Bytes> decrypt_any(const Bytes& id, Hash hash, const Bytes& ciphertext) {
    try {
      const auto got = token_->run(
          [&](Session& session) { return oaep_decrypt(session, id, hash, ciphertext); });
      return got ? std::optional(Bytes(got->begin(), got->end())) : std::nullopt;
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  void judge_oaep(const std::string& file, Hash hash) {
    Bytes id;
    for_each(file, [&](const Json& group, const Json& test) -> std::string {
      if (id.empty())
        token_->run([&](Session& session) {
          id = import_rsa(session, CKA_DECRYPT, group.at("privateKey"));
        });
      const Bytes message = hex(test.at("msg")), ciphertext = hex(test.at("ct"));
      if (!test.at("label").get<std::string>().empty()) return "a label (JOSE and CMS have none)";
      if (ciphertext.size() != 256)
        return "a ciphertext of another length (refused before the token is asked)";
      EXPECT_EQ(decrypt_any(id, hash, ciphertext),
                test.at("result") == "valid" ? std::optional(message) : std::nullopt);
      SecretBytes got;
      try {
        got = token_->run([&](Session& session) {
          return oaep_decrypt(session, id, hash, ciphertext, message.size());
        });
      } catch (const Error& error) {
        // Native OAEP says no with a code; the vault turns that into random bytes.
        EXPECT_NE(test.at("result"), "valid") << error.what();
        return {};
      }
      const bool same = Bytes(got.begin(), got.end()) == message;
      if (message.empty())
        return "an empty message (nothing to compare: content keys have 16 or 32 bytes)";
      EXPECT_EQ(same, test.at("result") == "valid");
      return {};
    });
  }

  test::SoftHsm hsm_;
  std::shared_ptr<Token> token_;
  std::string folder_;
};

TEST_F(TokenVectors, OaepSha1NativeInTheToken) {
  judge_oaep("rsa_oaep_2048_sha1_mgf1sha1_test.json", Hash::kSha1);
}

TEST_F(TokenVectors, OaepSha256ByRawRsaAndConstantTimeRemoval) {
  judge_oaep("rsa_oaep_2048_sha256_mgf1sha256_test.json", Hash::kSha256);
}

TEST_F(TokenVectors, EcdhP256) {
  for_each("ecdh_secp256r1_ecpoint_test.json", [&](const Json&, const Json& test) -> std::string {
    const Bytes point = hex(test.at("public"));
    if (point.size() != 65 || point[0] != 0x04)
      return "a point that is not uncompressed (refused before the token is asked)";
    Bytes scalar = unsigned_hex(test.at("private"));
    scalar.insert(scalar.begin(), 32 - scalar.size(), 0);
    try {
      const auto shared = token_->run([&](Session& session) {
        const Bytes id =
            import(session, CKO_PRIVATE_KEY, CKK_EC, CKA_DERIVE,
                   {{CKA_EC_PARAMS, ec_params(KeyKind::kEcP256)}, {CKA_VALUE, scalar}});
        auto secret = ecdh(session, id, KeyKind::kEcP256, point);
        destroy(session, id);
        return secret;
      });
      EXPECT_NE(test.at("result"), "invalid");
      EXPECT_EQ(Bytes(shared.begin(), shared.end()), hex(test.at("shared")));
    } catch (const Error& error) {
      EXPECT_NE(test.at("result"), "valid") << error.what();
    }
    return {};
  });
}

TEST_F(TokenVectors, AesGcm) {
  for_each("aes_gcm_test.json", [&](const Json& group, const Json& test) -> std::string {
    if (group.at("ivSize") != 96) return "an IV other than 96 bits (never made or accepted here)";
    if (group.at("keySize") == 192) return "AES-192 (not used here)";
    const Bytes message = hex(test.at("msg"));
    if (message.empty()) return "an empty message (never made here)";
    std::optional<SecretBytes> opened;
    try {
      opened = token_->run([&](Session& session) {
        const Bytes id = import(session, CKO_SECRET_KEY, CKK_AES, CKA_ENCRYPT,
                                {{CKA_VALUE, hex(test.at("key"))}});
        auto plaintext = gcm_decrypt(session, id, hex(test.at("iv")), hex(test.at("aad")),
                                     hex(test.at("ct")), hex(test.at("tag")));
        destroy(session, id);
        return plaintext;
      });
    } catch (const Error&) {
      opened.reset();  // SoftHSM answers a wrong tag with CKR_GENERAL_ERROR
    }
    EXPECT_EQ(opened.has_value(), test.at("result") == "valid");
    if (opened) {
      EXPECT_EQ(Bytes(opened->begin(), opened->end()), message);
    }
    return {};
  });
}

TEST_F(TokenVectors, AesKeyWrapAndItsPaddedForm) {
  for (const auto& [file, scheme] : {std::pair{"aes_wrap_test.json", WrapScheme::kAesKw},
                                     {"aes_kwp_test.json", WrapScheme::kAesKwp}}) {
    for_each(file, [&, scheme = scheme](const Json& group, const Json& test) -> std::string {
      if (group.at("keySize") != 256) return "a wrapping key other than AES-256 (never made here)";
      const std::size_t size = hex(test.at("msg")).size();
      if (test.at("result") == "valid" && size != 16 && size != 32)
        return "a payload that is no AES key of ours";
      KeySpec spec;
      spec.kind = KeyKind::kAes256;
      spec.usage = Usage::kEncrypt;
      spec.cka_id = random_bytes(16);
      bool accepted = true;
      try {
        token_->run([&](Session& session) {
          const Bytes id = import(session, CKO_SECRET_KEY, CKK_AES, CKA_UNWRAP,
                                  {{CKA_VALUE, hex(test.at("key"))}});
          unwrap(session, {id, CKO_SECRET_KEY}, scheme, hex(test.at("ct")), spec);
        });
      } catch (const Error&) {
        accepted = false;
      }
      if (test.at("result") != "acceptable") EXPECT_EQ(accepted, test.at("result") == "valid");
      return {};
    });
  }
}

TEST_F(TokenVectors, RsaPkcs1SignaturesAreTheKnownOnes) {
  Bytes id;
  Json of_group;
  for_each("rsa_pkcs1_2048_sig_gen_test.json",
           [&](const Json& group, const Json& test) -> std::string {
             const std::map<std::string, std::pair<Hash, Bytes (*)(ByteView)>> hashes{
                 {"SHA-256", {Hash::kSha256, [](ByteView data) { return sha256(data); }}}};
             const auto hash = hashes.find(group.at("sha").get<std::string>());
             if (hash == hashes.end())
               return "a hash other than SHA-256 (the test makes the digest itself)";
             if (of_group != group.at("privateKey")) {
               of_group = group.at("privateKey");
               token_->run([&](Session& session) { id = import_rsa(session, CKA_SIGN, of_group); });
             }
             const Bytes digest = hash->second.second(hex(test.at("msg")));
             const Bytes signature = token_->run([&](Session& session) {
               return sign(session, id, KeyKind::kRsa2048, SignScheme::kPkcs1, hash->second.first,
                           digest);
             });
             EXPECT_EQ(signature, hex(test.at("sig")));
             EXPECT_TRUE(verify_signature(hex(group.at("keyDer")), SignScheme::kPkcs1,
                                          hash->second.first, digest, signature));
             return {};
           });
}

TEST_F(TokenVectors, EcdsaVerificationAcceptsAndRefusesAsItMust) {
  for (const std::string file :
       {"ecdsa_secp256r1_sha256_test.json", "ecdsa_secp256r1_sha256_p1363_test.json"}) {
    const bool der = file.find("p1363") == std::string::npos;
    for_each(file, [&](const Json& group, const Json& test) -> std::string {
      bool good = false;
      try {
        const Bytes given = hex(test.at("sig"));
        const Bytes raw = der ? ecdsa_from_der(given, 32) : given;
        good =
            raw.size() == 64 && verify_signature(hex(group.at("publicKeyDer")), SignScheme::kEcdsa,
                                                 Hash::kSha256, sha256(hex(test.at("msg"))), raw);
      } catch (const keyagent::Error&) {
        good = false;  // not canonical DER
      }
      EXPECT_EQ(good, test.at("result") == "valid");
      return {};
    });
  }
}

}  // namespace
}  // namespace keyagent::pkcs11
