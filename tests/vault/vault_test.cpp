// SPDX-License-Identifier: Apache-2.0
// The vault on a real SoftHSM token.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/vault/token_vault.h"
#include "pkcs11/key.h"
#include "tests/support/code_of.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::vault {
namespace {

using test::SoftHsm;
namespace shim = test::shim;

class VaultTest : public ::testing::Test {
 protected:
  VaultTest() : token_(hsm_.open_shimmed()), vault_(token_) { shim::clear(); }
  ~VaultTest() override { shim::clear(); }

  VaultKey make(Purpose purpose, KeyAlgorithm algorithm,
                EnvelopeAlgorithm envelope = EnvelopeAlgorithm::kNone) {
    VaultKey key;
    key.cka_id = CkaId::random();
    key.info.name = "test-key";
    key.info.purpose = purpose;
    key.info.algorithm = algorithm;
    key.info.envelope = envelope;
    key.info.spki = vault_.generate({key.cka_id, "keyagent-test", algorithm, purpose});
    key.info.kid = algorithm == KeyAlgorithm::kAes256 ? Kid(to_hex(random_bytes(16)))
                                                      : Kid(jwk_thumbprint(key.info.spki));
    vault_.adopt(key);
    return key;
  }

  SoftHsm hsm_;
  std::shared_ptr<pkcs11::Token> token_;
  TokenVault vault_;
};

struct Made {
  Purpose purpose;
  KeyAlgorithm algorithm;
  EnvelopeAlgorithm envelope;
};

TEST_F(VaultTest, R1_EveryPurposeIsBornInTheTokenAndPassesItsSelfTest) {
  const Made all[] = {
      {Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep},
      {Purpose::kTransport, KeyAlgorithm::kRsa3072, EnvelopeAlgorithm::kRsaOaep256},
      {Purpose::kTransport, KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw},
      {Purpose::kTransport, KeyAlgorithm::kEcP384, EnvelopeAlgorithm::kEcdhEs},
      {Purpose::kSign, KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kNone},
      {Purpose::kSign, KeyAlgorithm::kEd25519, EnvelopeAlgorithm::kNone},
      {Purpose::kSign, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kNone},
      {Purpose::kAuth, KeyAlgorithm::kEcP384, EnvelopeAlgorithm::kNone},
      {Purpose::kAudit, KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kNone},
      {Purpose::kExchange, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kNone},
      {Purpose::kStorage, KeyAlgorithm::kAes256, EnvelopeAlgorithm::kA256GcmKw}};
  for (const auto& each : all) {
    SCOPED_TRACE(std::string(name_of(each.purpose)) + " " + std::string(name_of(each.algorithm)));
    const auto key = make(each.purpose, each.algorithm, each.envelope);
    EXPECT_NO_THROW(vault_.self_test(key));
    const auto custody = vault_.prove_custody(key);
    EXPECT_TRUE(custody.holds()) << custody.read_answer << " " << custody.wrap_answer << " "
                                 << custody.copy_answer;
    EXPECT_EQ(custody.local, true);
    EXPECT_EQ(custody.always_sensitive, true);
    EXPECT_EQ(custody.never_extractable, true);
  }
}

TEST_F(VaultTest, SignaturesOfEveryAlgorithmVerifyWithOpenSsl) {
  const auto rsa = make(Purpose::kSign, KeyAlgorithm::kRsa2048);
  for (const auto algorithm :
       {SignatureAlgorithm::kRs256, SignatureAlgorithm::kRs384, SignatureAlgorithm::kRs512,
        SignatureAlgorithm::kPs256, SignatureAlgorithm::kPs384, SignatureAlgorithm::kPs512}) {
    // The vault verifies RSA itself: a signature that comes out did verify.
    EXPECT_EQ(vault_.sign(rsa.info.kid, algorithm, random_bytes(digest_size(digest_of(algorithm))))
                  .size(),
              256u)
        << name_of(algorithm);
  }
}

TEST_F(VaultTest, Fault020_ASpoiledRsaSignatureIsWithheld) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kRsa2048);
  shim::set_faults("C_Sign:n=1:flip");
  EXPECT_EQ(
      code_of([&] { vault_.sign(key.info.kid, SignatureAlgorithm::kRs256, random_bytes(32)); }),
      Code::kIntegrity);
  EXPECT_NO_THROW(vault_.sign(key.info.kid, SignatureAlgorithm::kRs256, random_bytes(32)));
}

TEST_F(VaultTest, Fault163_AWrongSignatureOfAnyAlgorithmIsWithheld) {
  const std::pair<KeyAlgorithm, SignatureAlgorithm> all[] = {
      {KeyAlgorithm::kEcP256, SignatureAlgorithm::kEs256},
      {KeyAlgorithm::kEcP384, SignatureAlgorithm::kEs384},
      {KeyAlgorithm::kEd25519, SignatureAlgorithm::kEdDsa},
      {KeyAlgorithm::kRsa2048, SignatureAlgorithm::kPs256}};
  for (const auto& each : all) {
    const auto algorithm = each.second;
    SCOPED_TRACE(name_of(algorithm));
    const auto key = make(Purpose::kSign, each.first);
    const auto input = random_bytes(std::max<std::size_t>(digest_size(digest_of(algorithm)), 32));
    const auto sign = [&] { vault_.sign(key.info.kid, algorithm, input); };
    shim::set_faults("C_Sign:n=1:flip");
    EXPECT_EQ(code_of(sign), Code::kIntegrity);
    EXPECT_NO_THROW(sign());
    shim::set_faults("C_Sign:n=1:zero");
    EXPECT_EQ(code_of(sign), Code::kIntegrity);
  }
}

TEST(Translate, OneTableMapsFaultsOfTheTokenToErrorCodes) {
  using Kind = pkcs11::Error::Kind;
  const auto code = [](Kind kind, CK_RV rv = CKR_OK) {
    return translate(pkcs11::Error(kind, "text", rv)).code();
  };
  // A retry does not fix a problem that `keyagent token probe` finds.
  EXPECT_EQ(code(Kind::kOutput), Code::kIntegrity);
  EXPECT_EQ(code(Kind::kFull, CKR_DEVICE_MEMORY), Code::kTokenFull);
  EXPECT_EQ(code(Kind::kExists), Code::kExists);
  EXPECT_EQ(code(Kind::kModule), Code::kConfiguration);
  EXPECT_EQ(code(Kind::kModule, CKR_GENERAL_ERROR), Code::kTokenFault);
  EXPECT_EQ(code(Kind::kRv, CKR_MECHANISM_INVALID), Code::kUnsupported);
  EXPECT_EQ(code(Kind::kRv, CKR_DEVICE_ERROR), Code::kTokenFault);
  EXPECT_EQ(code(Kind::kDeadline), Code::kDeadline);
}

// The control: what the guard keeps in leaves where a profile switches it off.
TEST(VaultProfile, Fault163_WhereTheProfileDisablesVerificationOnlyRsaIsVerified) {
  test::SoftHsm hsm;
  auto profile = hsm.shimmed_profile();
  EXPECT_TRUE(pkcs11::Profile{}.verify_signatures) << "the default";
  profile.verify_signatures = false;
  TokenVault vault(std::make_shared<pkcs11::Token>(profile, hsm.options()));
  VaultKey key;
  key.cka_id = CkaId::random();
  key.info.purpose = Purpose::kSign;
  key.info.algorithm = KeyAlgorithm::kEcP256;
  key.info.spki =
      vault.generate({key.cka_id, "keyagent-test", key.info.algorithm, key.info.purpose});
  key.info.kid = Kid(jwk_thumbprint(key.info.spki));
  vault.adopt(key);
  const Bytes input = random_bytes(32);
  shim::set_faults("C_Sign:n=1:flip");
  const Bytes wrong = vault.sign(key.info.kid, SignatureAlgorithm::kEs256, input);
  EXPECT_FALSE(pkcs11::verify_signature(key.info.spki, pkcs11::SignScheme::kEcdsa,
                                        pkcs11::Hash::kSha256, input, wrong));
  shim::clear();
}

TEST_F(VaultTest, Fault065_ADigestOfAnotherLengthIsRefusedBeforeTheTokenSeesIt) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  shim::reset_counts();
  EXPECT_EQ(
      code_of([&] { vault_.sign(key.info.kid, SignatureAlgorithm::kEs256, random_bytes(64)); }),
      Code::kUsage);
  EXPECT_EQ(shim::count("C_SignInit"), 0u);
}

TEST_F(VaultTest, Fault061_AKeyDoesOnlyWhatItsPurposeSays) {
  const auto signer = make(Purpose::kSign, KeyAlgorithm::kRsa2048);
  const auto transport =
      make(Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256);
  EXPECT_EQ(code_of([&] {
              vault_.decrypt_cek(signer.info.kid, OaepHash::kSha256, random_bytes(256), 32);
            }),
            Code::kUnsupported);
  EXPECT_EQ(code_of([&] {
              vault_.sign(transport.info.kid, SignatureAlgorithm::kRs256, random_bytes(32));
            }),
            Code::kUnsupported);
  const auto custody = vault_.prove_custody(transport);
  EXPECT_EQ(custody.decrypt, true);
  EXPECT_EQ(custody.sign, false);
  EXPECT_EQ(custody.unwrap, false);
  EXPECT_EQ(custody.derive, false);
  EXPECT_EQ(custody.modifiable, false);
  EXPECT_EQ(custody.copyable, false);
}

TEST_F(VaultTest, Fault108_BadCiphertextsNeverReloadTheModule) {
  const auto native =
      make(Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep);
  const auto raw =
      make(Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256);
  auto ciphertext = random_bytes(256);
  ciphertext[0] = 0;  // below the modulus
  const auto before = token_->status();
  for (int i = 0; i < 1000; ++i) {
    ciphertext[8] = static_cast<std::uint8_t>(i);
    EXPECT_EQ(vault_.decrypt_cek(native.info.kid, OaepHash::kSha1, ciphertext, 32).size(), 32u);
    EXPECT_EQ(vault_.decrypt_cek(raw.info.kid, OaepHash::kSha256, ciphertext, 32).size(), 32u);
  }
  const auto after = token_->status();
  EXPECT_EQ(after.recoveries, before.recoveries);
  EXPECT_EQ(after.logins, before.logins);
  EXPECT_EQ(after.state, pkcs11::TokenState::kUp);
}

TEST_F(VaultTest, Fault103_ImplicitRejectionNeverGivesTheSameKeyTwice) {
  const auto key =
      make(Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256);
  auto ciphertext = random_bytes(256);
  ciphertext[0] = 0;
  const auto once = vault_.decrypt_cek(key.info.kid, OaepHash::kSha256, ciphertext, 32);
  EXPECT_NE(once, vault_.decrypt_cek(key.info.kid, OaepHash::kSha256, ciphertext, 32));
}

TEST_F(VaultTest, Fault104_ACiphertextOfWrongLengthIsRefusedWithoutTheToken) {
  const auto key =
      make(Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep256);
  shim::reset_counts();
  EXPECT_EQ(
      code_of([&] { vault_.decrypt_cek(key.info.kid, OaepHash::kSha256, random_bytes(255), 32); }),
      Code::kInput);
  EXPECT_EQ(shim::count("C_DecryptInit"), 0u);
}

TEST_F(VaultTest, Fault022_NoAnswerComesFromAnywhereElseWhenTheTokenIsDown) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  shim::set_faults(
      "C_SignInit:from=1:rv=0x30; C_GenerateRandom:from=1:rv=0x30; C_Initialize:from=1:rv=0x30");
  EXPECT_EQ(
      code_of([&] { vault_.sign(key.info.kid, SignatureAlgorithm::kEs256, random_bytes(32)); }),
      Code::kTokenFault);
}

TEST_F(VaultTest, Fault056_AGhostKeyFailsItsSelfTest) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  shim::set_faults("C_Sign:from=1:rv=0x5");
  EXPECT_EQ(code_of([&] { vault_.self_test(key); }), Code::kTokenFault);
  shim::set_faults("C_Sign:from=1:zero");
  EXPECT_EQ(code_of([&] { vault_.self_test(key); }), Code::kIntegrity);
}

TEST_F(VaultTest, ADestroyedKeySignsNoMoreThroughAnySession) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  vault_.sign(key.info.kid, SignatureAlgorithm::kEs256, random_bytes(32));
  vault_.destroy(key.cka_id);
  EXPECT_EQ(
      code_of([&] { vault_.sign(key.info.kid, SignatureAlgorithm::kEs256, random_bytes(32)); }),
      Code::kKeyLost);
}

TEST_F(VaultTest, Fault057_AnObjectThatSurvivesItsDestructionIsReported) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  shim::set_faults("C_DestroyObject:from=1:rv=0x0");
  EXPECT_EQ(code_of([&] { vault_.destroy(key.cka_id); }), Code::kTokenFault);
  shim::clear();
  EXPECT_NO_THROW(vault_.destroy(key.cka_id));
  EXPECT_FALSE(vault_.find(key.cka_id));
}

TEST_F(VaultTest, Fault054_AnotherPublicKeyUnderTheSameIdIsNotAdopted) {
  const auto one = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  auto claimed = one;
  claimed.info.spki = make(Purpose::kSign, KeyAlgorithm::kEcP256).info.spki;
  EXPECT_EQ(code_of([&] { vault_.adopt(claimed); }), Code::kIntegrity);
}

TEST_F(VaultTest, Fault053_ADuplicateIdIsRefused) {
  auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  EXPECT_EQ(code_of([&] {
              vault_.generate({key.cka_id, "second", KeyAlgorithm::kEcP256, Purpose::kSign});
            }),
            Code::kKeyLost);
  EXPECT_EQ(code_of([&] { vault_.adopt(key); }), Code::kIntegrity);
}

TEST_F(VaultTest, AMissingKeyIsLostAndAnUnknownOneIsNotPresent) {
  auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  vault_.destroy(key.cka_id);
  EXPECT_EQ(code_of([&] { vault_.adopt(key); }), Code::kKeyLost);
  vault_.forget(key.info.kid);
  EXPECT_EQ(code_of([&] { vault_.public_key(key.info.kid); }), Code::kKeyNotPresent);
}

TEST_F(VaultTest, Fault058_SteadyStateNeedsNoFindCalls) {
  const auto key = make(Purpose::kSign, KeyAlgorithm::kEcP256);
  vault_.sign(key.info.kid, SignatureAlgorithm::kEs256, random_bytes(32));
  shim::reset_counts();
  for (int i = 0; i < 100; ++i)
    vault_.sign(key.info.kid, SignatureAlgorithm::kEs256, random_bytes(32));
  EXPECT_EQ(shim::count("C_FindObjectsInit"), 0u);
  EXPECT_EQ(shim::count("C_Sign"), 100u);
}

TEST_F(VaultTest, FactsLiveInTheTokenAndAreReplaced) {
  EXPECT_EQ(vault_.read_fact("ledger-epoch"), std::nullopt);
  vault_.write_fact("ledger-epoch", "41");
  vault_.write_fact("ledger-epoch", "42");
  EXPECT_EQ(vault_.read_fact("ledger-epoch"), "42");
  vault_.erase_fact("ledger-epoch");
  EXPECT_EQ(vault_.read_fact("ledger-epoch"), std::nullopt);
}

TEST_F(VaultTest, PairsThatAPurposeDoesNotAllowAreRefused) {
  EXPECT_EQ(code_of([&] {
              vault_.generate({CkaId::random(), "x", KeyAlgorithm::kAes256, Purpose::kSign});
            }),
            Code::kUnsupported);
}

}  // namespace
}  // namespace keyagent::vault
