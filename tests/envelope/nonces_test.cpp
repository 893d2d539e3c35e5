// SPDX-License-Identifier: Apache-2.0
// AES-GCM is broken when a nonce repeats under one key, so each message has its own content key and
// a random nonce from the agent.

#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <vector>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/secrets.h"
#include "tests/envelope/keys.h"

namespace keyagent::envelope {
namespace {

// Keeps what the key's holder learns when it opens an envelope: the content key, or the agreed
// secret that it is wrapped under.
class CekSpy final : public KeyOps {
 public:
  explicit CekSpy(KeyOps& keys) : keys_(keys) {}
  PublicKeyInfo public_key(const Kid& kid) override { return keys_.public_key(kid); }
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override {
    return keys_.sign(kid, algorithm, input);
  }
  SecretBytes decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                          std::size_t size) override {
    return keep(keys_.decrypt_cek(kid, hash, ciphertext, size));
  }
  std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash, ByteView text) override {
    return keys_.decrypt(kid, hash, text);
  }
  SecretBytes agree(const Kid& kid, ByteView point) override {
    return keep(keys_.agree(kid, point));
  }
  WrappedCek wrap_cek(const Kid& kid, const SecretBytes& cek) override {
    const auto wrapped = keys_.wrap_cek(kid, cek);
    EXPECT_TRUE(wrapping_ivs.insert(wrapped.iv).second) << "a nonce of the storage key, again";
    return wrapped;
  }
  SecretBytes unwrap_cek(const Kid& kid, const WrappedCek& wrapped, std::size_t size) override {
    return keep(keys_.unwrap_cek(kid, wrapped, size));
  }
  std::set<SecretBytes> seen;
  std::set<Bytes> wrapping_ivs;

 private:
  SecretBytes keep(SecretBytes secret) {
    seen.insert(secret);
    return secret;
  }
  KeyOps& keys_;
};

class Nonces : public testing::TestWithParam<test::KeyCase> {};

TEST_P(Nonces, Fault099_NoContentKeyAndNoNonceComesTwice) {
  constexpr std::size_t kMessages = 300;
  const auto key = test::shared_key(GetParam());
  CekSpy keys(test::shared_keys());
  std::set<std::string> nonces, ciphertexts;
  for (std::size_t i = 0; i < kMessages; ++i) {
    const auto sealed =
        seal_jwe(keys, key, ContentEncryption::kA256Gcm, test::secret("always the same text"));
    std::vector<std::string> parts;
    std::istringstream words(std::string{as_text(sealed)});
    for (std::string part; std::getline(words, part, '.');) parts.push_back(part);
    ASSERT_EQ(parts.size(), 5u);
    nonces.insert(parts[2]);
    ciphertexts.insert(parts[3]);
    EXPECT_EQ(open(keys, key, sealed), test::secret("always the same text"));
  }
  EXPECT_EQ(nonces.size(), kMessages);
  EXPECT_EQ(ciphertexts.size(), kMessages);
  EXPECT_EQ(keys.seen.size(), kMessages) << "a content key, again";
}

INSTANTIATE_TEST_SUITE_P(Keys, Nonces, testing::ValuesIn(test::all_keys()), test::case_name);

// Under one key and for one text: nothing but the draw makes them differ.
TEST(GcmSeal, Fault099_TheAgentDrawsTheNonceOfEachMessage) {
  const SecretBytes key = random_secret(32), text = random_secret(32);
  std::set<Bytes> nonces;
  for (int i = 0; i < 20000; ++i) nonces.insert(gcm_seal(key, {}, text).iv);
  EXPECT_EQ(nonces.size(), 20000u);
  EXPECT_EQ(nonces.begin()->size(), kGcmIv);
}

}  // namespace
}  // namespace keyagent::envelope
