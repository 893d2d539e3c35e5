// SPDX-License-Identifier: Apache-2.0
// Ledger and token together, on a real SoftHSM token behind the shim.

#include "agent/keys/key_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/shell_argument.h"
#include "pkcs11/key.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {
namespace {

using ::testing::HasSubstr;
namespace shim = test::shim;
using std::filesystem::path;

class KeyStoreTest : public ::testing::Test {
 protected:
  KeyStoreTest() : token_(hsm_.open_shimmed()), vault_(token_) { open(); }
  ~KeyStoreTest() override { shim::clear(); }

  void open() {
    shim::clear();
    store_.reset();
    store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
    store_->reconcile();
  }
  path state() const { return folder_.path() / "state"; }
  void backup_to(const path& to) {
    store_.reset();
    std::filesystem::remove_all(to);
    std::filesystem::copy(state(), to);
  }
  KeyRecord make(const char* name, Purpose purpose = Purpose::kSign) {
    return store_->create({KeyName(name), purpose, std::nullopt, std::nullopt}).record;
  }
  std::size_t token_keys() { return vault_.objects().size(); }
  test::SoftHsm hsm_;
  test::TempFolder folder_;
  test::FakeClock clock_;
  std::shared_ptr<pkcs11::Token> token_;
  vault::TokenVault vault_;
  std::unique_ptr<KeyStore> store_;
};

TEST_F(KeyStoreTest, R1_StartingTwiceNeverMakesASecondKey) {
  const auto first =
      store_->create({KeyName("signer"), Purpose::kSign, std::nullopt, std::nullopt});
  EXPECT_TRUE(first.created);
  open();
  const auto second =
      store_->create({KeyName("signer"), Purpose::kSign, std::nullopt, std::nullopt});
  EXPECT_FALSE(second.created);
  EXPECT_EQ(first.record.kid, second.record.kid);
  EXPECT_EQ(token_keys(), 1u);
}

TEST_F(KeyStoreTest, Fault164_AMissingKeyIsLookedForInAFreshRunBeforeItCountsAsLost) {
  const auto record = make("signer");
  const auto epoch = token_->status().epoch;
  shim::set_faults("C_FindObjects:n=3:size=0");  // the first two read the epoch
  store_->reconcile();
  EXPECT_GT(token_->status().epoch, epoch);
  EXPECT_TRUE(store_->findings().empty());
  EXPECT_FALSE(store_->misses_keys());
  EXPECT_NO_THROW(store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32)));
}

TEST_F(KeyStoreTest, Fault164_AKeyThatAnotherLookFindsIsNotDestroyed) {
  const auto record = make("signer");
  shim::set_faults("C_FindObjects:n=1:size=0");
  EXPECT_EQ(code_of([&] { store_->destroy("signer", {"test"}); }), Code::kKeyState);
  EXPECT_TRUE(vault_.find(record.cka_id).has_value());
  EXPECT_NO_THROW(store_->destroy("signer", {"test"})) << "asked once more";
  EXPECT_FALSE(vault_.find(record.cka_id).has_value());
}

TEST_F(KeyStoreTest, Fault164_AUseThatMissesItsKeyAsksForAnotherComparison) {
  const auto record = make("signer");
  make("other");
  vault_.destroy(record.cka_id);
  EXPECT_FALSE(store_->misses_keys());
  EXPECT_EQ(code_of([&] {
              store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32));
            }),
            Code::kKeyLost);
  EXPECT_TRUE(store_->misses_keys());
  store_->reconcile();
  EXPECT_TRUE(store_->misses_keys()) << "a finding now";
  EXPECT_THAT(store_->findings()[0].cure,
              HasSubstr("key destroy " + as_argument(record.kid.text())));
  store_->destroy("signer", {"test"});
  EXPECT_FALSE(store_->misses_keys());
}

TEST_F(KeyStoreTest, TheKidIsTheThumbprintOfThePublicKey) {
  const auto record = make("signer");
  EXPECT_EQ(record.kid.text(), jwk_thumbprint(record.spki));
  EXPECT_EQ(make("vault", Purpose::kStorage).kid.text().size(), 32u);
}

TEST_F(KeyStoreTest, TheSameNameWithAnotherPurposeIsRefused) {
  make("one");
  EXPECT_EQ(code_of([&] { make("one", Purpose::kTransport); }), Code::kExists);
}

TEST_F(KeyStoreTest, R3_ADestroyedKeyIsRefusedBeforeTheTokenSeesTheRequest) {
  const auto record = make("credentials", Purpose::kTransport);
  store_->destroy("credentials", {"test"});
  shim::reset_counts();
  EXPECT_EQ(code_of([&] {
              store_->ops().decrypt_cek(record.kid, OaepHash::kSha256, random_bytes(384), 32);
            }),
            Code::kKeyState);
  EXPECT_EQ(shim::count("C_DecryptInit"), 0u);
  EXPECT_EQ(token_keys(), 0u);
}

TEST_F(KeyStoreTest, DestroyIsIdempotentAndTheNameIsFreeForTheNextGeneration) {
  const auto first = make("one");
  store_->destroy("one", {"test"});
  EXPECT_EQ(store_->destroy(first.kid.text(), {"test"}).state, KeyState::kDestroyed);
  EXPECT_EQ(make("one").generation, 2);
}

TEST_F(KeyStoreTest, R13_AKeyDeletedInTheTokenIsOneFindingWithItsKidAndNeverDeletedHere) {
  const auto record = make("one");
  vault_.destroy(record.cka_id);
  open();
  ASSERT_EQ(store_->findings().size(), 1u);
  EXPECT_EQ(store_->findings()[0].kind, Finding::Kind::kKeyLost);
  EXPECT_EQ(store_->findings()[0].kid, record.kid.text());
  EXPECT_EQ(code_of([&] {
              store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32));
            }),
            Code::kKeyLost);
  EXPECT_EQ(store_->list().size(), 1u);
}

TEST_F(KeyStoreTest, R13_AnUnknownKidIsNotPresent) {
  EXPECT_EQ(code_of([&] { store_->find(to_base64url(random_bytes(32))); }), Code::kKeyNotPresent);
  EXPECT_EQ(code_of([&] { store_->find("nobody"); }), Code::kKeyNotPresent);
}

TEST_F(KeyStoreTest, Fault084_R15_ARestoredOldLedgerIsReportedAndNotObeyed) {
  make("one");
  const path yesterday = folder_.path() / "yesterday";
  backup_to(yesterday);
  open();
  make("two");
  store_.reset();
  std::filesystem::remove_all(state());
  std::filesystem::copy(yesterday, state());
  store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
  EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kIntegrity);
  ASSERT_EQ(store_->findings().size(), 1u);
  EXPECT_EQ(store_->findings()[0].kind, Finding::Kind::kRollback);
  EXPECT_EQ(token_keys(), 2u);
  EXPECT_EQ(code_of([&] {
              store_->ops().sign(store_->find("one").kid, SignatureAlgorithm::kEs256,
                                 random_bytes(32));
            }),
            Code::kIntegrity);
}

TEST_F(KeyStoreTest, Fault084_NothingIsChangedUnderARestoredLedgerAndTheTokensEpochIsNotLowered) {
  make("one");
  const path yesterday = folder_.path() / "yesterday";
  backup_to(yesterday);
  open();
  make("two");
  store_.reset();
  const auto epoch = vault_.read_fact("ledger-epoch");
  std::filesystem::remove_all(state());
  std::filesystem::copy(yesterday, state());
  store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
  EXPECT_EQ(code_of([&] { make("three"); }), Code::kTokenFault);  // not compared yet
  EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { make("three"); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { store_->destroy("one", {"test"}); }), Code::kIntegrity);
  EXPECT_EQ(vault_.read_fact("ledger-epoch"), epoch);
  EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kIntegrity);
  EXPECT_EQ(token_keys(), 2u);
}

TEST_F(KeyStoreTest, Fault084_ARollbackThatIsSeenLaterTakesTheKeysOutOfUse) {
  const auto record = make("one");
  vault_.write_fact("ledger-epoch", "999999");
  EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] {
              store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32));
            }),
            Code::kIntegrity);
  vault_.write_fact("ledger-epoch", "not a number");
  EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kIntegrity);
}

TEST_F(KeyStoreTest, ADestructionThatATokenFaultStoppedIsFinishedByRepeatingIt) {
  make("one");
  shim::set_faults("C_DestroyObject:from=1:rv=0x7");
  EXPECT_NE(code_of([&] { store_->destroy("one", {"test"}); }), Code::kOk);
  shim::clear();
  EXPECT_EQ(store_->destroy("one", {"test"}).state, KeyState::kDestroyed);
  EXPECT_EQ(token_keys(), 0u);
}

TEST_F(KeyStoreTest, Fault085_ASecondStoreOnTheSameFolderIsRefusedAndNamesTheHolder) {
  try {
    KeyStore second({state(), &clock_, "test-agent"}, vault_);
    FAIL() << "two stores on one folder";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kBusy);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(::getpid())));
  }
}

TEST_F(KeyStoreTest, Fault021_ALostReplyOfKeyGenerationLeavesNoSecondKey) {
  shim::set_faults("C_GenerateKeyPair:n=1:after:rv=0x30");
  EXPECT_NE(code_of([&] { make("one"); }), Code::kOk);
  shim::clear();
  EXPECT_EQ(token_keys(), 0u);
  make("one");
  EXPECT_EQ(token_keys(), 1u);
}

TEST_F(KeyStoreTest, Fault055_AnOrphanOfOurJournaledIdIsRemovedAtStart) {
  // Generation succeeds, everything after it fails: what a crash in between leaves.
  shim::set_faults(
      "C_GenerateKeyPair:n=1:after:rv=0x30; C_DestroyObject:from=1:rv=0x30; "
      "C_FindObjectsInit:from=1:rv=0x30");
  EXPECT_NE(code_of([&] { make("one"); }), Code::kOk);
  shim::clear();
  open();
  // The pair is whole, so it is finished, not lost: the same name, one key.
  EXPECT_EQ(token_keys(), 1u);
  EXPECT_FALSE(
      store_->create({KeyName("one"), Purpose::kSign, std::nullopt, std::nullopt}).created);
}

TEST_F(KeyStoreTest, Fault055_AForeignKeyIsNeverTouched) {
  vault_.generate({CkaId::random(), "somebody else's", KeyAlgorithm::kEcP256, Purpose::kSign});
  open();
  EXPECT_EQ(token_keys(), 1u);
  ASSERT_EQ(store_->findings().size(), 1u);
  EXPECT_EQ(store_->findings()[0].kind, Finding::Kind::kForeign);
}

TEST_F(KeyStoreTest, Fault015_AFullTokenStopsCreationAndLeavesNothing) {
  shim::set_faults("C_GenerateKeyPair:n=1:rv=0x31");
  EXPECT_EQ(code_of([&] { make("one"); }), Code::kTokenFull);
  EXPECT_EQ(store_->list().size(), 0u);
  EXPECT_EQ(token_keys(), 0u);
}

// The token makes keys that can leave it, whatever it was asked for.
TEST_F(KeyStoreTest, Fault060_AKeyThatTheTokenMadeExtractableIsDestroyed) {
  const struct {
    const char* function;
    Purpose purpose;
  } rows[] = {{"C_GenerateKey", Purpose::kStorage}, {"C_GenerateKeyPair", Purpose::kSign}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.function);
    shim::set_faults(std::string(row.function) + ":every=1:extractable");
    EXPECT_EQ(code_of([&] { make("extractable", row.purpose); }), Code::kIntegrity);
    shim::clear();
    for (const auto& key : store_->list()) EXPECT_EQ(key.state, KeyState::kDestroyed);
    EXPECT_EQ(token_keys(), 0u);
    EXPECT_NO_THROW(make("extractable", row.purpose)) << "the name is free";
    store_->destroy("extractable", {"test"});
    open();
  }
}

TEST_F(KeyStoreTest, Fault060_AKeyWhoseCustodyCannotBeReadBackIsNotUsed) {
  // The read-back of attributes fails, so SENSITIVE cannot be confirmed.
  shim::set_faults("C_GetAttributeValue:from=1:rv=0x12");
  EXPECT_NE(code_of([&] { make("vault", Purpose::kStorage); }), Code::kOk);
  shim::clear();
  open();
  EXPECT_TRUE(store_->list().empty());
}

TEST_F(KeyStoreTest, Fault060_NothingStaysOfAKeyOfWhichNoAttributeCanBeRead) {
  for (const char* rv : {"0x5", "0x12", "0x30"}) {
    for (const auto purpose : {Purpose::kStorage, Purpose::kSign}) {
      SCOPED_TRACE(std::string(rv) + " " + std::string(name_of(purpose)));
      shim::set_faults(std::string("C_GetAttributeValue:from=1:rv=") + rv);
      EXPECT_NE(code_of([&] { make("vault", purpose); }), Code::kOk);
      open();
      EXPECT_EQ(token_keys(), 0u);
      EXPECT_TRUE(store_->findings().empty()) << store_->findings()[0].text;
      EXPECT_TRUE(store_->list().empty());
    }
  }
}

TEST_F(KeyStoreTest, Fault164_ATokenThatReadsNoAttributeHasLostNoKey) {
  const auto record = make("signer");
  for (const char* rv : {"0x5", "0x30"}) {
    SCOPED_TRACE(rv);
    shim::set_faults(std::string("C_GetAttributeValue:from=1:rv=") + rv);
    EXPECT_EQ(code_of([&] { vault_.find(record.cka_id); }), Code::kTokenFault);
    EXPECT_EQ(code_of([&] { vault_.objects(); }), Code::kTokenFault);
    EXPECT_EQ(code_of([&] { vault_.read_fact("ledger-epoch"); }), Code::kTokenFault)
        << "no epoch would be no rollback";
    EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kTokenFault);
    EXPECT_TRUE(store_->findings().empty()) << "no key is lost";
    shim::clear();
    store_->reconcile();
    EXPECT_TRUE(store_->findings().empty());
  }
}

// Another token with the same label, and with another key under the same CKA_ID.
TEST(TwinToken, Fault008_AnotherTokenOfTheSameLabelSignsNothing) {
  const test::SoftHsm hsm;
  const test::TempFolder folder;
  const test::FakeClock clock;
  const KeyStore::Options options{folder.path() / "state", &clock, "test-agent"};
  KeyRecord record;
  {
    vault::TokenVault vault(hsm.open_shimmed());
    KeyStore store(options, vault);
    store.reconcile();
    record = store.create({KeyName("signer"), Purpose::kSign, {}, {}}).record;
  }
  std::filesystem::rename(hsm.folder() / "tokens", hsm.folder() / "away");
  std::filesystem::create_directory(hsm.folder() / "tokens");
  hsm.add_token(hsm.label());
  auto by_label = hsm.options();
  by_label.selector = {hsm.label(), ""};
  vault::TokenVault vault(std::make_shared<pkcs11::Token>(hsm.shimmed_profile(), by_label));
  vault.generate({record.cka_id, "test-agent/signer", record.algorithm, record.purpose});
  KeyStore store(options, vault);
  store.reconcile();
  const auto found = store.findings();
  EXPECT_TRUE(std::any_of(found.begin(), found.end(), [&](const auto& finding) {
    return finding.kind == Finding::Kind::kMismatch && finding.kid == record.kid.text();
  }));
  shim::reset_counts();
  EXPECT_EQ(
      code_of([&] { store.ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32)); }),
      Code::kIntegrity);
  EXPECT_EQ(shim::count("C_SignInit"), 0u);
}

TEST_F(KeyStoreTest, Fault056_NewKeyThatFailsItsSelfTestIsNotKept) {
  shim::set_faults("C_Sign:every=1:flip");
  EXPECT_NE(code_of([&] {
              store_->create({KeyName("one"), Purpose::kSign, KeyAlgorithm::kEcP256, std::nullopt});
            }),
            Code::kOk);
  shim::clear();
  EXPECT_EQ(store_->list().size(), 0u);
  EXPECT_EQ(token_keys(), 0u);
}

TEST_F(KeyStoreTest, X16_AStoreOpensWithoutItsTokenAndReportsTheTokenAsAbsent) {
  const auto record = make("one");
  store_.reset();
  shim::set_faults(
      "C_OpenSession:from=1:rv=0xe0; C_GetSlotList:from=1:rv=0xe0; "
      "C_GetSessionInfo:from=1:rv=0xe0; C_SignInit:from=1:rv=0xe0;"
      "C_FindObjectsInit:from=1:rv=0xe0");
  store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
  EXPECT_EQ(store_->list().size(), 1u);
  EXPECT_EQ(code_of([&] { store_->reconcile(); }), Code::kTokenAbsent);
  EXPECT_EQ(code_of([&] {
              store_->ops().sign(record.kid, SignatureAlgorithm::kEs256, random_bytes(32));
            }),
            Code::kTokenAbsent);
}

}  // namespace
}  // namespace keyagent::keys
