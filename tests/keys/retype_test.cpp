// SPDX-License-Identifier: Apache-2.0
// Keys that sign statements, from before there were purposes for them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {
namespace {

class RetypeTest : public ::testing::Test {
 protected:
  RetypeTest() : vault_(hsm_.open()) { open(); }

  void open() {
    store_.reset();
    store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
    store_->reconcile();
  }
  std::filesystem::path state() const { return folder_.path() / "state"; }
  KeyRecord make(const char* name, Purpose purpose) {
    return store_->create({KeyName(name), purpose, std::nullopt, std::nullopt}).record;
  }
  // As version 0.1 left it: a sign key under a name of the instance's.
  KeyRecord make_old(const char* name) {
    store_.reset();
    KeyRecord record;
    record.cka_id = CkaId::random();
    record.name = KeyName(name);
    record.spki = vault_.generate({record.cka_id, name, record.algorithm, Purpose::kSign, false});
    record.kid = Kid(jwk_thumbprint(record.spki));
    record.created = record.changed = record.activated = clock_.now();
    Ledger ledger(state() / "ledger.db");
    ledger.begin_step({JournalStep::Kind::kCreate, record.cka_id, record});
    ledger.finish_create(record);
    return record;
  }
  std::string purpose_in_ledger(const Kid& kid) {
    store_.reset();
    std::string found;
    {
      Ledger ledger(state() / "ledger.db");
      for (const auto& key : ledger.load().keys)
        if (key.kid == kid) found = name_of(key.purpose);
    }
    open();
    return found;
  }

  test::SoftHsm hsm_;
  test::TempFolder folder_;
  test::FakeClock clock_;
  vault::TokenVault vault_;
  std::unique_ptr<KeyStore> store_;
};

TEST_F(RetypeTest, Fault144_AnOldSignKeyIsHeldToWhatItsNameStandsFor) {
  const std::pair<const char*, Purpose> names[] = {{"instance-ca", Purpose::kCa},
                                                   {"instance-confirm", Purpose::kConfirm},
                                                   {"exchange-identity", Purpose::kIdentity}};
  for (const auto& [name, purpose] : names) {
    const auto old = make_old(name);
    open();
    const auto held = store_->find(name);
    EXPECT_EQ(held.kid, old.kid);
    EXPECT_EQ(held.purpose, purpose) << name;
    EXPECT_TRUE(held.narrowed);
    EXPECT_FALSE(store_->ops().sign(held.kid, SignatureAlgorithm::kEs256, Bytes(32)).empty());
    EXPECT_FALSE(store_->create({KeyName(name), purpose, {}, {}}).created) << "it is that one";
    EXPECT_EQ(purpose_in_ledger(old.kid), "sign") << "until it is retyped";
    EXPECT_TRUE(store_->retype(KeyName(name), purpose, {"test", "uid 0"}));
    EXPECT_EQ(purpose_in_ledger(old.kid), std::string(name_of(purpose)));
    EXPECT_FALSE(store_->find(name).narrowed);
    EXPECT_FALSE(store_->retype(KeyName(name), purpose, {"test"})) << "again";
    EXPECT_EQ(store_->history(old.kid).back().actor, "uid 0");
  }
}

TEST_F(RetypeTest, Fault144_ARekeyMakesTheNextGenerationOfThePurpose) {
  make_old("exchange-identity");
  open();
  const auto rekey = store_->begin_rekey({KeyName("exchange-identity"), {}, {}}, {"test"});
  store_->make_next_key(rekey.id);
  const auto fresh = store_->find(store_->rekey(rekey.id).new_kid.text());
  EXPECT_EQ(fresh.purpose, Purpose::kIdentity);
  EXPECT_FALSE(fresh.narrowed) << "in the ledger, too";
}

TEST_F(RetypeTest, Fault144_OnlySignKeysAreNarrowedAndNoneIsMadeUnderSuchAName) {
  const auto key = make("our-ca", Purpose::kSign);
  EXPECT_EQ(code_of([&] { store_->retype(KeyName("our-ca"), Purpose::kSign, {"x"}); }),
            Code::kUsage);
  EXPECT_EQ(code_of([&] { store_->retype(KeyName("our-ca"), Purpose::kAuth, {"x"}); }),
            Code::kUsage);
  EXPECT_EQ(code_of([&] { store_->retype(KeyName("nothing"), Purpose::kCa, {"x"}); }),
            Code::kKeyNotPresent);
  EXPECT_TRUE(store_->retype(KeyName("our-ca"), Purpose::kCa, {"x"}));
  open();
  EXPECT_EQ(store_->find(key.kid.text()).purpose, Purpose::kCa);
  EXPECT_EQ(code_of([&] { store_->retype(KeyName("our-ca"), Purpose::kConfirm, {"x"}); }),
            Code::kKeyState);
  make("web", Purpose::kAuth);
  EXPECT_EQ(code_of([&] { store_->retype(KeyName("web"), Purpose::kCa, {"x"}); }), Code::kKeyState);
  EXPECT_EQ(code_of([&] { make("instance-ca", Purpose::kSign); }), Code::kUsage);
}

}  // namespace
}  // namespace keyagent::keys
