// SPDX-License-Identifier: Apache-2.0
// When the audit log is compared with the checkpoints that the token and the instance keep, on a
// real token behind the shim (RELIABILITY 138, 157).

#include <gmock/gmock.h>

#include <algorithm>

#include "agent/audit/record.h"
#include "agent/base/encoding.h"
#include "agent/daemon/audit_history.h"
#include "agent/daemon/checkpoint_signer.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/fake_clock.h"
#include "tests/support/shim_control.h"

namespace keyagent::daemon {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class Comparisons : public testing::Test {
 protected:
  Comparisons()
      : vault_(hsm_.open_shimmed()), keys_({hsm_.folder() / "state", &clock_, "test"}, vault_) {
    test::shim::clear();
    keys_.reconcile();
    audit_key_ =
        keys_.create({KeyName("audit"), Purpose::kAudit, std::nullopt, std::nullopt}).record.kid;
    signer_ =
        std::make_unique<CheckpointSigner>(keys_.ops(), *audit_key_, SignatureAlgorithm::kEs256);
    open();
  }
  ~Comparisons() override { test::shim::clear(); }

  // An agent that starts.
  void open() {
    history_.reset();
    log_.reset();
    audit::Options options;
    options.folder = folder();
    options.clock = &clock_;
    options.commit_interval = 1ms;
    log_ = std::make_unique<audit::AuditLog>(options);
    history_ = std::make_unique<AuditHistory>(
        *log_, keys_, vault_, read_, [this](const auto& each) { alarms_.push_back(each.detail); },
        clock_);
  }
  void sign() {
    log_->set_signer([this](ByteView payload) { return signer_->sign(payload); });
    ASSERT_TRUE(log_->checkpoint());
  }
  std::filesystem::path folder() const { return hsm_.folder() / "audit"; }
  void record(int count = 3) {
    for (int i = 0; i < count; ++i) {
      audit::Event event;
      event.what = "sign";
      log_->record_now(event);
    }
  }
  // One that no agent has made.
  static std::string invented(std::uint64_t size, char digit = 'a') {
    return audit::format_external(size, std::string(64, digit), WallTime{},
                                  {"a-kid", "ES256", Bytes(64)});
  }

  const test::SoftHsm hsm_;
  test::FakeClock clock_;
  vault::TokenVault vault_;
  keys::KeyStore keys_;
  std::optional<Kid> audit_key_;
  std::unique_ptr<CheckpointSigner> signer_;
  std::filesystem::path read_ = folder();
  std::unique_ptr<audit::AuditLog> log_;
  std::unique_ptr<AuditHistory> history_;
  std::vector<std::string> alarms_;
};

TEST_F(Comparisons, Fault138_AnInstanceThatSendsOtherCheckpointsCausesOneReadInFiveMinutes) {
  record();
  sign();
  history_->check_at_start();
  history_->hear(invented(1000));
  history_->compare();
  ASSERT_EQ(alarms_.size(), 1u) << "the first is compared at once";
  // Each has a text of its own: a comparison would be an alarm.
  for (int beat = 1; beat < 100; ++beat) {
    history_->hear(invented(1000 + beat));
    history_->compare();
    clock_.advance(1s);
  }
  EXPECT_EQ(alarms_.size(), 1u);
  clock_.advance(AuditHistory::kBetweenComparisons);
  history_->compare();
  ASSERT_EQ(alarms_.size(), 2u);
  EXPECT_THAT(alarms_[1], HasSubstr("is of 1099 records")) << "the newest that was said";
  history_->compare();
  EXPECT_EQ(alarms_.size(), 2u);
}

TEST_F(Comparisons, Fault138_TheSameFaultIsToldOnceUntilTheLogWasFoundWhole) {
  record();
  sign();
  history_->check_at_start();
  const auto whole = log_->newest_checkpoint();
  const auto hear = [&](const std::optional<std::string>& checkpoint) {
    history_->hear(checkpoint);
    clock_.advance(AuditHistory::kBetweenComparisons);
    history_->compare();
    return alarms_.size();
  };
  EXPECT_EQ(hear(invented(1, 'a')), 1u);
  EXPECT_EQ(hear(invented(1, 'b')), 1u);
  EXPECT_EQ(hear(std::nullopt), 1u);
  EXPECT_EQ(hear(invented(1, 'a')), 1u);
  EXPECT_EQ(history_->offer(), "") << "the fault is known all the time";
  EXPECT_EQ(hear(whole), 1u);
  EXPECT_NE(history_->offer(), "");
  EXPECT_EQ(hear(invented(1, 'a')), 2u);
}

TEST_F(Comparisons, Fault138_AnInstanceThatSendsNoCheckpointsCausesOneLineInFiveMinutes) {
  const auto lines = [&] {
    testing::internal::CaptureStderr();
    for (int i = 0; i < 100; ++i) history_->hear("{}");
    const auto text = testing::internal::GetCapturedStderr();
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines(), 1);
  clock_.advance(AuditHistory::kBetweenComparisons);
  EXPECT_EQ(lines(), 1);
}

}  // namespace
}  // namespace keyagent::daemon
