// SPDX-License-Identifier: Apache-2.0
// The same flow and the same code on a TPM (swtpm, tpm2-abrmd, tpm2-pkcs11): differences are in
// hsm-profiles/tpm2.yml only.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/exchange/exchange.h"
#include "agent/keys/key_store.h"
#include "tests/support/code_of.h"
#include "tests/support/command.h"
#include "tests/support/fake_clock.h"
#include "tests/support/swtpm.h"

namespace keyagent {
namespace {

using namespace std::chrono_literals;

class TpmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test::Swtpm::available()) GTEST_SKIP() << test::Swtpm::missing();
    tpm_.emplace();
    open();
  }

  void open() {
    store_.reset();
    vault_.reset();
    token_.reset();
    token_ = tpm_->open();
    vault_.emplace(token_);
    store_ = std::make_unique<keys::KeyStore>(
        keys::KeyStore::Options{folder_.path() / "state", &clock_, "tpm-agent"}, *vault_);
  }

  keys::KeyRecord make(const char* name, Purpose purpose,
                       std::optional<KeyAlgorithm> algorithm = {}) {
    return store_->create({KeyName(name), purpose, algorithm, std::nullopt}).record;
  }
  static PublicKeyInfo info_of(const keys::KeyRecord& record) {
    return {record.kid,     record.name.text(), record.algorithm,
            record.purpose, record.envelope,    record.spki};
  }
  static SecretBytes secret(std::string_view text) { return {text.begin(), text.end()}; }

  std::optional<test::Swtpm> tpm_;
  test::TempFolder folder_;
  test::FakeClock clock_;
  std::shared_ptr<pkcs11::Token> token_;
  std::optional<vault::TokenVault> vault_;
  std::unique_ptr<keys::KeyStore> store_;
};

TEST_F(TpmTest, R1_R4_AKeyIsBornOpensWhatWasSealedToItAndCannotLeave) {
  store_->reconcile();
  const auto record = make("credentials", Purpose::kTransport, KeyAlgorithm::kRsa2048);
  const auto info = info_of(record);
  for (const auto encryption :
       {envelope::ContentEncryption::kA128Gcm, envelope::ContentEncryption::kA256Gcm}) {
    const auto jwe = envelope::seal_jwe(info, encryption, secret("a credential"));
    EXPECT_EQ(envelope::open(store_->ops(), info, jwe), secret("a credential"));
  }
  const auto cms =
      envelope::seal_cms(info, envelope::ContentEncryption::kA256Gcm, secret("a credential"));
  EXPECT_EQ(envelope::open(store_->ops(), info, cms), secret("a credential"));
  const auto custody = store_->prove_custody("credentials");
  EXPECT_TRUE(custody.read_refused) << custody.read_answer;
  EXPECT_TRUE(custody.wrap_refused) << custody.wrap_answer;
  EXPECT_TRUE(custody.holds());
  open();
  store_->reconcile();
  EXPECT_FALSE(store_
                   ->create({KeyName("credentials"), Purpose::kTransport, KeyAlgorithm::kRsa2048,
                             std::nullopt})
                   .created);
}

TEST_F(TpmTest, R4_AForgedEnvelopeIsOneUniformRefusalAndTheTokenStaysUp) {
  store_->reconcile();
  const auto info = info_of(make("credentials", Purpose::kTransport, KeyAlgorithm::kRsa2048));
  auto jwe =
      envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm, secret("a credential"));
  const auto encrypted_key = std::find(jwe.begin(), jwe.end(), '.') + 20;
  *encrypted_key = *encrypted_key == 'A' ? 'B' : 'A';
  const auto before = token_->status().recoveries;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(code_of([&] { envelope::open(store_->ops(), info, jwe); }), Code::kInput);
  }
  EXPECT_EQ(token_->status().recoveries, before);
  EXPECT_EQ(token_->status().state, pkcs11::TokenState::kUp);
}

TEST_F(TpmTest, SignaturesVerifyWithThePublicKey) {
  store_->reconcile();
  const struct {
    const char* name;
    KeyAlgorithm key;
    SignatureAlgorithm algorithm;
  } rows[] = {{"ec-256", KeyAlgorithm::kEcP256, SignatureAlgorithm::kEs256},
              {"ec-384", KeyAlgorithm::kEcP384, SignatureAlgorithm::kEs384},
              {"rsa", KeyAlgorithm::kRsa2048, SignatureAlgorithm::kRs256},
              {"rsa", KeyAlgorithm::kRsa2048, SignatureAlgorithm::kPs256}};
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.name) + " " + std::string(name_of(row.algorithm)));
    const auto record = make(row.name, Purpose::kSign, row.key);
    const auto digest = random_bytes(digest_size(digest_of(row.algorithm)));
    const auto signature = store_->ops().sign(record.kid, row.algorithm, digest);
    EXPECT_TRUE(envelope::verify_signature(record.spki, row.algorithm, digest, signature));
  }
}

TEST_F(TpmTest, WhatATpmCannotDoIsRefusedByName) {
  store_->reconcile();
  EXPECT_EQ(code_of([&] { make("vault", Purpose::kStorage); }), Code::kUnsupported);
  EXPECT_EQ(code_of([&] { make("ed", Purpose::kSign, KeyAlgorithm::kEd25519); }),
            Code::kUnsupported);
  EXPECT_TRUE(store_->list().empty());
}

TEST_F(TpmTest, X4_AsSourceOrTargetOfAKeyExchangeItReportsWhatItLacksBeforeAnythingIsSent) {
  store_->reconcile();
  make("exchange-identity", Purpose::kIdentity);
  const auto text_of = [&](const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUnsupported);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  const auto what = ::testing::HasSubstr("CKM_AES_KEY_GEN, CKM_AES_KEY_WRAP_KWP");
  EXPECT_THAT(text_of([&] {
                exchange::make_offer(*store_, *vault_, clock_, "exchange", "exchange-identity");
              }),
              what);
  exchange::ExportOrder order;
  order.request = "req-1";
  order.specification = "customers";
  EXPECT_THAT(text_of([&] { exchange::export_key(*store_, *vault_, clock_, order); }), what);
  EXPECT_EQ(code_of([&] {
              store_->create({KeyName("data.customers"), Purpose::kStorage, {}, {}, true});
            }),
            Code::kUnsupported);
}

TEST_F(TpmTest, Fault001_AKilledTpmIsFoundAgainWithItsKeys) {
  store_->reconcile();
  const auto record = make("signer", Purpose::kSign);
  const auto digest = random_bytes(32);
  tpm_->kill();
  const auto refused =
      code_of([&] { store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, digest); });
  EXPECT_TRUE(refused == Code::kTokenFault || refused == Code::kTokenAbsent ||
              refused == Code::kDeadline)
      << code_name(refused);
  tpm_->restart();
  // The condition is awaited; each look is a recovery attempt of the token's own.
  Bytes signature;
  for (int i = 0; i < 200 && signature.empty(); ++i) {
    if (!token_->check_health()) std::this_thread::sleep_for(50ms);
    code_of(
        [&] { signature = store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, digest); });
  }
  ASSERT_FALSE(signature.empty()) << token_->status().detail;
  EXPECT_TRUE(
      envelope::verify_signature(record.spki, SignatureAlgorithm::kEs256, digest, signature));
}

TEST_F(TpmTest, Fault017_KeysThatTheTokenLostAreKeyLost) {
  store_->reconcile();
  const auto record = make("signer", Purpose::kSign);
  vault_->destroy(record.cka_id);
  open();
  store_->reconcile();
  ASSERT_EQ(store_->findings().size(), 1u);
  EXPECT_EQ(store_->findings()[0].kind, keys::Finding::Kind::kKeyLost);
  EXPECT_EQ(code_of([&] {
              store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32));
            }),
            Code::kKeyLost);
}

TEST_F(TpmTest, Fault024_AWrongPinIsSpentOnceHoweverOftenTheAgentStarts) {
  store_.reset();
  vault_.reset();
  token_.reset();
  auto options = tpm_->options();
  options.refused_pin_file = folder_.path() / "refused-pin";
  options.pin = [] { return pkcs11::SecretBytes{'w', 'r', 'o', 'n', 'g'}; };
  for (int start = 0; start < 10; ++start) {
    const pkcs11::Token token(tpm_->profile(), options);
    EXPECT_EQ(token.status().state, pkcs11::TokenState::kPinRefused)
        << "start " << start << ": " << token.status().detail;
  }
  // Ten attempts would have locked the TPM (it locks after three here): the right PIN still works.
  EXPECT_EQ(tpm_->open()->status().state, pkcs11::TokenState::kUp);
}

TEST_F(TpmTest, Fault027_ALockedPinIsAFinalStateWithTheFix) {
  store_.reset();
  vault_.reset();
  token_.reset();
  for (int attempt = 0; attempt < 8; ++attempt) {
    auto options = tpm_->options();
    const auto wrong = static_cast<std::uint8_t>('0' + attempt);
    options.pin = [wrong] { return pkcs11::SecretBytes{'w', 'r', 'o', 'n', 'g', wrong}; };
    const pkcs11::Token token(tpm_->profile(), options);
    if (token.status().state == pkcs11::TokenState::kPinLocked) break;
  }
  const auto locked = tpm_->open();
  EXPECT_EQ(locked->status().state, pkcs11::TokenState::kPinLocked) << locked->status().detail;
  EXPECT_THAT(locked->status().detail, ::testing::HasSubstr("tpm2_dictionarylockout"));
  test::run_command("tpm2_dictionarylockout --clear-lockout");
  EXPECT_EQ(tpm_->open()->status().state, pkcs11::TokenState::kUp);
}

}  // namespace
}  // namespace keyagent
