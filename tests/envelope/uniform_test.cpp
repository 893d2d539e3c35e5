// SPDX-License-Identifier: Apache-2.0
// One failure for everything that a key decides (RELIABILITY 101 to 105): same code, same words,
// same work.

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "agent/base/encoding.h"
#include "agent/envelope/secrets.h"
#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

struct Answer {
  Code code;
  std::string text;
  int token_calls;
  auto operator<=>(const Answer&) const = default;
};

Answer answer_to(const PublicKeyInfo& key, ByteView envelope) {
  auto& keys = test::shared_keys();
  const int before = keys.calls().total();
  try {
    open(keys, key, envelope);
  } catch (const Error& e) {
    return {e.code(), e.what(), keys.calls().total() - before};
  }
  return {Code::kOk, "", keys.calls().total() - before};
}

std::vector<std::string> split(std::string_view token) {
  std::vector<std::string> parts(1);
  for (const char c : token) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::string replaced(std::string_view token, std::size_t part, const Bytes& bytes) {
  auto parts = split(token);
  parts[part] = to_base64url(bytes);
  return parts[0] + '.' + parts[1] + '.' + parts[2] + '.' + parts[3] + '.' + parts[4];
}

Bytes part_of(std::string_view token, std::size_t part) {
  return from_base64url(split(token)[part]).value();
}

// RSA with the public key on a whole block: the way to make ciphertexts whose decryption has a
// chosen form.
Bytes raw_rsa(const PublicKeyInfo& key, const Bytes& block) {
  const unsigned char* at = key.spki.data();
  EVP_PKEY* pkey = d2i_PUBKEY(nullptr, &at, static_cast<long>(key.spki.size()));
  EVP_PKEY_CTX* ctx = EVP_PKEY_CTX_new(pkey, nullptr);
  Bytes out(block.size());
  std::size_t size = out.size();
  EXPECT_TRUE(EVP_PKEY_encrypt_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) > 0 &&
              EVP_PKEY_encrypt(ctx, out.data(), &size, block.data(), block.size()) > 0);
  EVP_PKEY_CTX_free(ctx);
  EVP_PKEY_free(pkey);
  return out;
}

Bytes block_of(std::initializer_list<std::uint8_t> head, std::uint8_t fill) {
  Bytes block(256, fill);
  std::copy(head.begin(), head.end(), block.begin());
  return block;
}

class Uniform : public testing::Test {
 protected:
  std::string sealed_to(const PublicKeyInfo& key) {
    const Bytes token =
        seal_jwe(test::shared_keys(), key, ContentEncryption::kA256Gcm, test::secret("credential"));
    return {token.begin(), token.end()};
  }
  void add(const std::string& failure, const PublicKeyInfo& key, const std::string& token) {
    answers_[failure] = answer_to(key, as_bytes(token));
  }
  void expect_all_alike() {
    for (const auto& [failure, answer] : answers_) {
      EXPECT_EQ(answer, (Answer{Code::kInput, test::input_error_text(), 1})) << failure;
    }
  }
  std::map<std::string, Answer> answers_;
};

TEST_F(Uniform, Fault103_OaepFailureClassesAreOneFailure) {
  const auto key = test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256});
  const auto other = test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep});
  const std::string good = sealed_to(key);
  add("Y = 0, wrong lHash", key, replaced(good, 1, raw_rsa(key, block_of({0}, 0x5A))));
  add("Y != 0 (Manger)", key, replaced(good, 1, raw_rsa(key, block_of({1}, 0x5A))));
  add("PKCS#1 v1.5 padding", key, replaced(good, 1, raw_rsa(key, block_of({0, 2}, 0x33))));
  add("zero", key, replaced(good, 1, Bytes(256)));
  add("number above the modulus", key, replaced(good, 1, Bytes(256, 0xFF)));
  add("OAEP with SHA-1", key, replaced(good, 1, part_of(sealed_to(other), 1)));
  add("key of another message", key, replaced(good, 1, part_of(sealed_to(key), 1)));
  auto small = seal_jwe(key, ContentEncryption::kA128Gcm, test::secret("credential"));
  add("CEK of 16 bytes for 32", key, replaced(good, 1, part_of(as_text(small), 1)));
  Bytes tag = part_of(good, 4);
  tag[0] ^= 1;
  add("tag", key, replaced(good, 4, tag));
  Bytes text = part_of(good, 3);
  text[0] ^= 1;
  add("text", key, replaced(good, 3, text));
  Bytes iv = part_of(good, 2);
  iv[0] ^= 1;
  add("IV", key, replaced(good, 2, iv));
  auto header = nlohmann::json::parse(part_of(good, 0));
  header["added"] = "later";
  const std::string json = header.dump();
  add("header", key, replaced(good, 0, Bytes(json.begin(), json.end())));
  expect_all_alike();
}

TEST_F(Uniform, Fault103_AgreementFailureClassesAreOneFailure) {
  for (const auto envelope : {EnvelopeAlgorithm::kEcdhEs, EnvelopeAlgorithm::kEcdhEsA256Kw}) {
    const auto key = test::shared_key({KeyAlgorithm::kEcP256, envelope});
    const std::string good = sealed_to(key);
    const std::string name(name_of(envelope));
    auto header = nlohmann::json::parse(part_of(good, 0));
    header["epk"] = nlohmann::json::parse(part_of(sealed_to(key), 0))["epk"];
    const std::string json = header.dump();
    add(name + " another point", key, replaced(good, 0, Bytes(json.begin(), json.end())));
    Bytes tag = part_of(good, 4);
    tag[15] ^= 0x80;
    add(name + " tag", key, replaced(good, 4, tag));
    if (envelope == EnvelopeAlgorithm::kEcdhEs) continue;
    Bytes wrapped = part_of(good, 1);
    wrapped[3] ^= 4;
    add(name + " key wrap", key, replaced(good, 1, wrapped));
  }
  expect_all_alike();
}

TEST_F(Uniform, Fault103_StorageKeyFailureClassesAreOneFailure) {
  const auto key = test::shared_key({KeyAlgorithm::kAes256, EnvelopeAlgorithm::kA256GcmKw});
  const std::string good = sealed_to(key);
  Bytes wrapped = part_of(good, 1);
  wrapped[0] ^= 1;
  add("wrapped key", key, replaced(good, 1, wrapped));
  Bytes tag = part_of(good, 4);
  tag[0] ^= 1;
  add("tag", key, replaced(good, 4, tag));
  for (const char* name : {"iv", "tag"}) {
    auto header = nlohmann::json::parse(part_of(good, 0));
    Bytes bytes = from_base64url(header[name].get<std::string>()).value();
    bytes[0] ^= 1;
    header[name] = to_base64url(bytes);
    const std::string json = header.dump();
    add(std::string("header ") + name, key, replaced(good, 0, Bytes(json.begin(), json.end())));
  }
  expect_all_alike();
}

// Fault102 at this level: time is not measured, work is. Random ciphertexts fall into every class;
// none may cost another number of operations or say other words.
TEST_F(Uniform, Fault102_RandomCiphertextsCostTheSameWorkAndSayTheSame) {
  const auto key = test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep});
  const std::string good = sealed_to(key);
  std::set<Answer> answers;
  for (int i = 0; i < 1000; ++i) {
    answers.insert(answer_to(key, as_bytes(replaced(good, 1, random_bytes(256)))));
  }
  EXPECT_EQ(answers, (std::set<Answer>{{Code::kInput, test::input_error_text(), 1}}));
}

TEST_F(Uniform, Fault106_TheFailureNamesNeitherKeyNorCause) {
  const auto key = test::shared_key({KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep});
  const std::string bad = replaced(sealed_to(key), 1, Bytes(256, 1));
  try {
    open(test::shared_keys(), key, as_bytes(bad));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kid(), "");
    for (const char* word : {"OAEP", "tag", "padding", "CEK", "kid"}) {
      EXPECT_EQ(std::string(e.what()).find(word), std::string::npos) << word;
    }
  }
}

TEST(KeyWrap, UnwrapOfAnythingElseIsRandomOfTheSameSize) {
  const SecretBytes kek = random_secret(32);
  const SecretBytes key = random_secret(32);
  Bytes wrapped = aes_kw_wrap(kek, key);
  EXPECT_EQ(aes_kw_unwrap(kek, wrapped), key);
  wrapped[7] ^= 1;
  const SecretBytes first = aes_kw_unwrap(kek, wrapped);
  EXPECT_EQ(first.size(), 32U);
  EXPECT_NE(first, aes_kw_unwrap(kek, wrapped)) << "the true bytes came out, not random ones";
}

TEST(KeyWrap, KnownAnswersOfRfc3394) {
  const auto bytes = [](const char* hex) { return from_hex(hex).value(); };
  const auto secret = [&](const char* hex) {
    const Bytes b = bytes(hex);
    return SecretBytes(b.begin(), b.end());
  };
  EXPECT_EQ(aes_kw_wrap(secret("000102030405060708090a0b0c0d0e0f"),
                        secret("00112233445566778899aabbccddeeff")),
            bytes("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"));
  EXPECT_EQ(
      aes_kw_wrap(secret("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
                  secret("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")),
      bytes("28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"));
}

// RFC 7518 appendix C.
TEST(ConcatKdf, KnownAnswerOfRfc7518) {
  const Bytes z =
      from_hex("9e56d91d817135d372834283bf84269cfb316ea3da806a48f6daa7798cfe90c4").value();
  Bytes info;
  const auto sized = [&](std::string_view text) {
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
      info.push_back(static_cast<std::uint8_t>(text.size() >> shift));
    }
    info.insert(info.end(), text.begin(), text.end());
  };
  sized("A128GCM");
  sized("Alice");
  sized("Bob");
  info.insert(info.end(), {0, 0, 0, 128});
  const SecretBytes key = concat_kdf(SecretBytes(z.begin(), z.end()), info, 16);
  EXPECT_EQ(to_base64url(key), "VqqN6vgjbSBcIijNcacQGg");
}

// Every padding byte value over every last block: only RFC 5652 §6.3 padding passes.
TEST(CbcPadding, Fault105_OnlyWholePaddingPasses) {
  const SecretBytes key = random_secret(32);
  const Bytes iv = random_bytes(16);
  int opened = 0;
  for (int pad = 0; pad < 256; ++pad) {
    for (const int wrong : {0, 1, pad - 1}) {
      Bytes block(32, static_cast<std::uint8_t>(pad));
      if (wrong > 0 && wrong < 16) block[31 - static_cast<std::size_t>(wrong)] ^= 1;
      EVP_CIPHER_CTX* ctx = EVP_CIPHER_CTX_new();
      Bytes out(32);
      int size = 0;
      ASSERT_EQ(EVP_EncryptInit_ex(ctx, EVP_aes_256_cbc(), nullptr, key.data(), iv.data()), 1);
      EVP_CIPHER_CTX_set_padding(ctx, 0);
      ASSERT_EQ(EVP_EncryptUpdate(ctx, out.data(), &size, block.data(), 32), 1);
      EVP_CIPHER_CTX_free(ctx);
      const bool right = pad >= 1 && pad <= 16 && (wrong <= 0 || wrong >= pad);
      const Code code = code_of([&] {
        EXPECT_EQ(cbc_open(key, iv, out).size(), 32U - static_cast<unsigned>(pad));
        ++opened;
      });
      EXPECT_EQ(code, right ? Code::kOk : Code::kInput) << pad << " " << wrong;
    }
  }
  EXPECT_GT(opened, 16);
}

}  // namespace
}  // namespace keyagent::envelope
