// SPDX-License-Identifier: Apache-2.0
// Keys that travel from token to token: two SoftHSM tokens, and OpenSSL as an independent third.
// Each by the steps that the agent composes, and by the token's own CKM_RSA_AES_KEY_WRAP
// (tests/shim).

#include <gmock/gmock.h>

#include "tests/support/shim_control.h"
#include "tests/vault/raw_cryptoki.h"
#include "tests/vault/software_transfer.h"

namespace keyagent::vault {
namespace {

using test::SoftwareRecipient;

class TransferTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    hsm_ = std::make_unique<test::SoftHsm>("source");
    hsm_->add_token("target");
    auto profile = hsm_->shimmed_profile();
    profile.rsa_aes_key_wrap = is_native();
    source_token_ = std::make_shared<pkcs11::Token>(profile, hsm_->options());
    auto added = hsm_->options();
    added.selector = {"target", ""};
    target_token_ = std::make_shared<pkcs11::Token>(profile, added);
    source_ = std::make_unique<TokenVault>(source_token_);
    target_ = std::make_unique<TokenVault>(target_token_);
    exchange_ = make(*target_, Purpose::kExchange, KeyAlgorithm::kRsa2048);
  }
  void TearDown() override {
    source_.reset();
    target_.reset();
    source_token_.reset();
    target_token_.reset();
    hsm_.reset();
  }

  static bool is_native() { return GetParam() == std::string("native"); }
  static VaultKey make(TokenVault& vault, Purpose purpose, KeyAlgorithm algorithm,
                       bool exchangeable = false) {
    VaultKey key;
    key.cka_id = CkaId::random();
    key.info.name = "data.customers";
    key.info.purpose = purpose;
    key.info.algorithm = algorithm;
    key.info.spki =
        vault.generate({key.cka_id, "data.customers", algorithm, purpose, exchangeable});
    key.info.kid =
        key.info.spki.empty() ? Kid(to_hex(random_bytes(16))) : Kid(jwk_thumbprint(key.info.spki));
    if (exchangeable) key.birth = Birth::kExchangeable;
    vault.adopt(key);
    return key;
  }
  static VaultKey make_data_key() {
    return make(*source_, Purpose::kStorage, KeyAlgorithm::kAes256, true);
  }
  static Transferred for_target(Bytes wrapped) {
    return {exchange_.info.kid, OaepHash::kSha1, std::move(wrapped)};
  }
  static VaultKey import(const Transferred& transferred) {
    VaultKey key;
    key.cka_id = CkaId::random();
    key.info.name = "imported";
    key.info.kid = Kid(to_hex(random_bytes(16)));
    key.info.purpose = Purpose::kStorage;
    key.info.algorithm = KeyAlgorithm::kAes256;
    key.birth = Birth::kImported;
    target_->import(key.cka_id, "imported", transferred);
    target_->adopt(key);
    return key;
  }
  static std::size_t keys_in_target() { return target_->objects().size(); }
  static std::string refusal(Code code, const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "nothing was refused";
    return {};
  }

  static inline std::unique_ptr<test::SoftHsm> hsm_;
  static inline std::shared_ptr<pkcs11::Token> source_token_, target_token_;
  static inline std::unique_ptr<TokenVault> source_, target_;
  static inline VaultKey exchange_;
};
INSTANTIATE_TEST_SUITE_P(By, TransferTest, testing::Values("composed", "native"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(TransferTest, X2_TheTokensOwnMechanismIsAskedWhereTheProfileHasIt) {
  const VaultKey key = make_data_key();
  test::shim::reset_counts();
  const Bytes wrapped = source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1);
  EXPECT_EQ(test::shim::count("C_WrapKey"), is_native() ? 1u : 2u);
  EXPECT_EQ(test::shim::count("C_GenerateKey"), is_native() ? 0u : 1u);
  test::shim::reset_counts();
  import(for_target(wrapped));
  EXPECT_EQ(test::shim::count("C_UnwrapKey"), is_native() ? 1u : 2u);
}

TEST_P(TransferTest, X2_AKeyTravelsToAnotherTokenAndIsReadableInNeither) {
  const VaultKey key = make_data_key();
  const SecretBytes cek = random_secret(32);
  const WrappedCek sealed = source_->wrap_cek(key.info.kid, cek);
  const VaultKey there =
      import(for_target(source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1)));
  EXPECT_EQ(target_->unwrap_cek(there.info.kid, sealed, cek.size()), cek);
  EXPECT_FALSE(source_->prove_custody(key).holds()) << "a wrapping key of the token's own takes it";
  EXPECT_TRUE(source_->prove_custody(key).holds_but_wrapped());
  const auto custody = target_->prove_custody(there);
  EXPECT_TRUE(custody.holds());
  EXPECT_EQ(custody.sensitive, true);
  EXPECT_EQ(custody.extractable, false);
  EXPECT_EQ(custody.modifiable, false);
  EXPECT_EQ(custody.local, false);
}

TEST_P(TransferTest, X2_WhatLeavesIsOpenedByAnIndependentImplementation) {
  const VaultKey key = make_data_key();
  const SoftwareRecipient recipient;
  const Bytes value =
      recipient.unwrap(source_->wrap_for(key.info.kid, recipient.spki(), OaepHash::kSha1));
  ASSERT_EQ(value.size(), 32u);
  const SecretBytes cek = random_secret(32);
  const WrappedCek sealed = source_->wrap_cek(key.info.kid, cek);
  EXPECT_EQ(test::gcm_open(value, sealed.iv, sealed.ciphertext, sealed.tag),
            Bytes(cek.begin(), cek.end()));
}

TEST_P(TransferTest, X2_WhatAnIndependentImplementationSendsIsImported) {
  const Bytes value = random_bytes(32);
  const VaultKey there =
      import(for_target(SoftwareRecipient::wrap_for(exchange_.info.spki, value)));
  const SecretBytes cek = random_secret(16);
  const WrappedCek sealed = target_->wrap_cek(there.info.kid, cek);
  EXPECT_EQ(test::gcm_open(value, sealed.iv, sealed.ciphertext, sealed.tag),
            Bytes(cek.begin(), cek.end()));
}

TEST_P(TransferTest, EachExportIsUnderAOneTimeKeyThatIsGone) {
  const VaultKey key = make_data_key();
  const auto count = [&] {
    return source_token_->run([&](Session& session) {
      CK_OBJECT_HANDLE found[64];
      CK_ULONG objects = 0;
      session.c().C_FindObjectsInit(session.handle(), nullptr, 0);
      session.c().C_FindObjects(session.handle(), found, 64, &objects);
      session.c().C_FindObjectsFinal(session.handle());
      return objects;
    });
  };
  const auto before = count();
  const Bytes first = source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1);
  const Bytes second = source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1);
  EXPECT_NE(Bytes(first.end() - 40, first.end()), Bytes(second.end() - 40, second.end()));
  EXPECT_EQ(count(), before) << "of the session and of the token";
}

TEST_P(TransferTest, Fault094_WhateverIsWrongIsOneRefusalAndNothingStays) {
  const VaultKey key = make_data_key();
  const Bytes good = source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1);
  const auto before = keys_in_target();
  const VaultKey other = make(*source_, Purpose::kExchange, KeyAlgorithm::kRsa2048);
  std::vector<Bytes> bad;
  for (const std::size_t at : {0, 17, 255, 256, 270, 295}) {
    bad.push_back(good);
    bad.back()[at] ^= 0x40;
  }
  bad.push_back({});
  bad.emplace_back(good.begin(), good.end() - 1);
  bad.emplace_back(good.begin(), good.end() - 8);
  bad.push_back(good);
  bad.back().push_back(0);
  bad.push_back(source_->wrap_for(key.info.kid, other.info.spki, OaepHash::kSha1));
  bad.push_back(SoftwareRecipient::wrap_for(exchange_.info.spki, random_bytes(24)));
  std::set<std::string> texts;
  for (const auto& wrapped : bad) {
    texts.insert(refusal(Code::kIntegrity, [&] { import(for_target(wrapped)); }));
  }
  EXPECT_EQ(texts.size(), 1u) << ::testing::PrintToString(texts);
  EXPECT_EQ(keys_in_target(), before);
  EXPECT_EQ(target_token_->status().state, pkcs11::TokenState::kUp);
  EXPECT_EQ(target_token_->status().recoveries, 0u);
}

TEST_P(TransferTest, Fault093_AShorterKeyIsRefusedThoughItIsAsLongWhenWrapped) {
  const auto before = keys_in_target();
  for (const std::size_t size : {25, 31}) {
    const Bytes wrapped = SoftwareRecipient::wrap_for(exchange_.info.spki, random_bytes(size));
    ASSERT_EQ(wrapped.size(), 256u + 40u);
    refusal(Code::kIntegrity, [&] { import(for_target(wrapped)); });
  }
  EXPECT_EQ(keys_in_target(), before);
}

TEST_P(TransferTest, Fault090_AKeyThatWasNotCreatedExchangeableIsNeverWrapped) {
  const VaultKey key = make(*source_, Purpose::kStorage, KeyAlgorithm::kAes256);
  refusal(Code::kKeyState,
          [&] { source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1); });
  // Nor when the agent itself errs: the token refuses.
  VaultKey mistaken = key;
  mistaken.birth = Birth::kExchangeable;
  source_->adopt(mistaken);
  refusal(Code::kKeyLost,
          [&] { source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1); });
  EXPECT_EQ(refusal(Code::kIntegrity, [&] { source_->require_custody(mistaken); }),
            "the token created a key that differs from the request (CKA_EXTRACTABLE is not TRUE)");
}

TEST_P(TransferTest, Fault091_AnImportedKeyLeavesNoMoreAndTakesNoOtherUsage) {
  const VaultKey key = make_data_key();
  const VaultKey there =
      import(for_target(source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1)));
  refusal(Code::kKeyState,
          [&] { target_->wrap_for(there.info.kid, exchange_.info.spki, OaepHash::kSha1); });
  target_token_->run([&](Session& s) {
    const Handle handle =
        s.key({{there.cka_id.bytes.begin(), there.cka_id.bytes.end()}, CKO_SECRET_KEY});
    for (const auto usage : {CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_DERIVE, CKA_EXTRACTABLE})
      EXPECT_FALSE(set_bool(s, handle, usage, true)) << usage;
    EXPECT_FALSE(set_bool(s, handle, CKA_SENSITIVE, false));
    EXPECT_THAT(read_value(s, handle), ::testing::IsEmpty());
  });
  VaultKey mistaken = there;
  mistaken.birth = Birth::kHere;
  refusal(Code::kIntegrity, [&] { target_->require_custody(mistaken); });
}

TEST_P(TransferTest, TheSameKeyAgainIsKnownByItsValueAndAnotherIsNot) {
  const VaultKey key = make_data_key(), other = make_data_key();
  const VaultKey there =
      import(for_target(source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1)));
  EXPECT_TRUE(target_->holds_same(
      there.info.kid,
      for_target(source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha1))));
  EXPECT_FALSE(target_->holds_same(
      there.info.kid,
      for_target(source_->wrap_for(other.info.kid, exchange_.info.spki, OaepHash::kSha1))));
}

TEST_P(TransferTest, ATokenWithoutTheOaepHashReportsItBeforeAnythingIsSent) {
  EXPECT_EQ(source_->missing_for_transfer(OaepHash::kSha1), "");
  EXPECT_EQ(source_->missing_for_transfer(OaepHash::kSha256), "CKM_RSA_PKCS_OAEP (SHA-256)");
  const VaultKey key = make_data_key();
  EXPECT_THAT(
      refusal(Code::kUnsupported,
              [&] { source_->wrap_for(key.info.kid, exchange_.info.spki, OaepHash::kSha256); }),
      ::testing::HasSubstr("CKM_RSA_PKCS_OAEP (SHA-256)"));
}

}  // namespace
}  // namespace keyagent::vault
