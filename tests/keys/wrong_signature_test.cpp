// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 163: a token whose signature does not verify takes its key out of use.

#include <gmock/gmock.h>

#include "agent/base/encoding.h"
#include "agent/keys/key_store.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {
namespace {

using ::testing::HasSubstr;
namespace shim = test::shim;

class WrongSignature : public ::testing::Test {
 protected:
  WrongSignature() : vault_(hsm_.open_shimmed()) {
    shim::clear();
    open();
    key_ = store_->create({KeyName("signer"), Purpose::kSign, std::nullopt, std::nullopt}).record;
  }
  ~WrongSignature() override { shim::clear(); }

  void open() {
    store_.reset();
    store_ = std::make_unique<KeyStore>(
        KeyStore::Options{folder_.path() / "state", &clock_, "test-agent"}, vault_);
    store_->reconcile();
  }
  Code sign() {
    return code_of(
        [&] { store_->ops().sign(key_.kid, SignatureAlgorithm::kEs256, random_bytes(32)); });
  }

  test::SoftHsm hsm_;
  test::TempFolder folder_;
  test::FakeClock clock_;
  vault::TokenVault vault_;
  std::unique_ptr<KeyStore> store_;
  KeyRecord key_;
};

TEST_F(WrongSignature, Fault163_TheKeyDoesNothingFromThatMomentOnAndIsSuspendedInTheLedger) {
  const auto other =
      store_->create({KeyName("other"), Purpose::kSign, std::nullopt, std::nullopt}).record;
  shim::set_faults("C_Sign:n=1:flip");
  EXPECT_EQ(sign(), Code::kIntegrity);
  shim::reset_counts();
  EXPECT_EQ(sign(), Code::kKeyState) << "before the ledger records it";
  EXPECT_EQ(shim::count("C_Sign"), 0u);
  const auto suspended = store_->suspend_faulty();
  ASSERT_EQ(suspended.size(), 1u);
  EXPECT_EQ(suspended.front().kid, key_.kid);
  EXPECT_THAT(suspended.front().reason, HasSubstr("does not verify"));
  EXPECT_TRUE(store_->suspend_faulty().empty()) << "once";
  EXPECT_EQ(store_->history(key_.kid).back().to, KeyState::kSuspended);
  open();
  EXPECT_EQ(store_->find("signer").state, KeyState::kSuspended) << "a restart forgets nothing";
  EXPECT_EQ(sign(), Code::kKeyState);
  EXPECT_NO_THROW(store_->ops().sign(other.kid, SignatureAlgorithm::kEs256, random_bytes(32)));
}

TEST_F(WrongSignature, Fault163_AProvingKeyIsTakenOutOfUseToo) {
  shim::set_faults("C_Sign:n=1:flip");
  EXPECT_EQ(code_of([&] {
              store_->proving_ops().sign(key_.kid, SignatureAlgorithm::kEs256, random_bytes(32));
            }),
            Code::kIntegrity);
  EXPECT_EQ(sign(), Code::kKeyState);
}

TEST_F(WrongSignature, Fault163_ResumingTestsTheKeyFirst) {
  shim::set_faults("C_Sign:every=1:flip");
  EXPECT_EQ(sign(), Code::kIntegrity);
  store_->suspend_faulty();
  const auto resume = [&] {
    store_->change_state("signer", KeyState::kActive, {"looked at", "test"});
  };
  EXPECT_EQ(code_of(resume), Code::kIntegrity);
  EXPECT_EQ(store_->find("signer").state, KeyState::kSuspended);
  shim::clear();
  EXPECT_NO_THROW(resume());
  EXPECT_EQ(sign(), Code::kOk);
}

}  // namespace
}  // namespace keyagent::keys
