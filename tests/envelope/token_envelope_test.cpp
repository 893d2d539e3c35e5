// SPDX-License-Identifier: Apache-2.0
// Envelopes opened by keys that live in a SoftHSM2 token, through the vault.

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/vault/token_vault.h"
#include "tests/envelope/keys.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::envelope {
namespace {

using test::secret;

// One token for all tests of this program: RSA generation in it is slow.
class TokenEnvelope : public testing::TestWithParam<test::KeyCase> {
 protected:
  static void SetUpTestSuite() {
    hsm_ = std::make_unique<test::SoftHsm>();
    vault_ = std::make_unique<vault::TokenVault>(hsm_->open());
  }
  static void TearDownTestSuite() {
    vault_.reset();
    hsm_.reset();
  }

  PublicKeyInfo make(const test::KeyCase& wanted) {
    vault::VaultKey key;
    const bool storage = wanted.algorithm == KeyAlgorithm::kAes256;
    key.cka_id = CkaId::random();
    key.info.name = "envelope";
    key.info.purpose = storage ? Purpose::kStorage : Purpose::kTransport;
    key.info.algorithm = wanted.algorithm;
    key.info.envelope = wanted.envelope;
    key.info.spki = vault_->generate({key.cka_id, "envelope", wanted.algorithm, key.info.purpose});
    key.info.kid = storage ? Kid(to_hex(random_bytes(16))) : Kid(jwk_thumbprint(key.info.spki));
    vault_->adopt(key);
    return key.info;
  }

  static inline std::unique_ptr<test::SoftHsm> hsm_;
  static inline std::unique_ptr<vault::TokenVault> vault_;
};

TEST_P(TokenEnvelope, R4_RoundTripsOpenInTheToken) {
  const PublicKeyInfo key = make(GetParam());
  for (const auto enc : {ContentEncryption::kA128Gcm, ContentEncryption::kA256Gcm}) {
    const SecretBytes text = random_secret(4096);
    EXPECT_EQ(open(*vault_, key, seal_jwe(*vault_, key, enc, text)), text);
    if (key.spki.empty()) continue;
    EXPECT_EQ(open(*vault_, key, seal_cms(key, enc, text)), text);
  }
}

TEST_P(TokenEnvelope, Fault103_EveryFlippedBitOfTheEncryptedKeyFailsAlike) {
  const PublicKeyInfo key = make(GetParam());
  const Bytes sealed = seal_jwe(*vault_, key, ContentEncryption::kA256Gcm, secret("credential"));
  const std::string token(sealed.begin(), sealed.end());
  const std::size_t first = token.find('.');
  const std::size_t second = token.find('.', first + 1);
  const Bytes good = from_base64url(token.substr(first + 1, second - first - 1)).value();
  for (std::size_t i = 0; i < good.size(); i += 5) {
    Bytes bad = good;
    bad[i] ^= 0x20;
    const std::string changed =
        token.substr(0, first + 1) + to_base64url(bad) + token.substr(second);
    try {
      open(*vault_, key, as_bytes(changed));
      FAIL() << "opened";
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Code::kInput) << e.what();
      ASSERT_EQ(std::string(e.what()), test::input_error_text());
    }
  }
  EXPECT_EQ(open(*vault_, key, sealed), secret("credential"));
}

INSTANTIATE_TEST_SUITE_P(Keys, TokenEnvelope, testing::ValuesIn(test::all_keys()), test::case_name);

}  // namespace
}  // namespace keyagent::envelope
