// SPDX-License-Identifier: Apache-2.0
// When the audit log is compared with the checkpoints that the token and the instance keep, on a
// real token behind the shim (RELIABILITY 138, 157).

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "agent/audit/record.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/daemon/audit_history.h"
#include "agent/daemon/checkpoint_signer.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/shim_control.h"

namespace keyagent::daemon {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr const char* kAnchor = "audit-anchor";

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
  // Comparing blocks as it reads the log, until `meanwhile` has been done.
  void compare_and(const std::function<void()>& meanwhile) {
    const auto path = folder() / "other" / audit::kLogName;
    const auto text = test::read_text(path);
    std::filesystem::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    std::thread comparing([this] { history_->compare(); });
    int pipe = -1;
    ASSERT_TRUE(test::wait_until(
        [&] { return (pipe = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)) >= 0; }));
    meanwhile();
    ASSERT_EQ(::write(pipe, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(pipe);
    comparing.join();
    std::filesystem::remove(path);
    std::ofstream(path) << text;
  }
  // The history reads a copy of the log from now on.
  void read_copy() {
    read_ = folder() / "other";
    std::filesystem::create_directory(read_);
    for (const auto name : {audit::kLogName, audit::kCheckpointName})
      std::filesystem::copy_file(folder() / name, read_ / name);
    open();
    sign();
    history_->check_at_start();
    ASSERT_TRUE(alarms_.empty()) << alarms_.front();
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

TEST_F(Comparisons, Fault157_ATokenFaultAtStartNeitherSkipsTheCheckNorReplacesTheTokensCopy) {
  record();
  sign();
  history_->check_at_start();
  record();
  log_->checkpoint();
  history_->anchor(true);
  const auto kept = vault_.read_fact(kAnchor);
  ASSERT_TRUE(kept);
  history_.reset();
  log_.reset();
  std::filesystem::remove_all(folder());
  open();
  record();
  test::shim::set_faults("C_FindObjectsInit:from=1:rv=0x30");
  EXPECT_NE(code_of([&] { history_->check_at_start(); }), Code::kOk);
  test::shim::clear();
  ASSERT_TRUE(test::wait_until(
      [&] { return code_of([&] { return vault_.read_fact(kAnchor); }) == Code::kOk; }));
  record(20);
  sign();
  history_->anchor(true);
  EXPECT_EQ(vault_.read_fact(kAnchor), kept) << "replaced before the log was checked";
  EXPECT_TRUE(alarms_.empty());
  history_->check_at_start();
  ASSERT_EQ(alarms_.size(), 1u);
  EXPECT_THAT(alarms_[0], HasSubstr("the checkpoint that the token keeps"));
  history_->anchor(true);
  EXPECT_EQ(vault_.read_fact(kAnchor), kept);
}

TEST_F(Comparisons, Fault138_ACheckpointThatIsSaidWhileTheLogIsReadIsComparedToo) {
  record();
  sign();
  read_copy();
  history_->hear(invented(1000));
  compare_and([this] { history_->hear(invented(2000)); });
  ASSERT_EQ(alarms_.size(), 1u) << "that the instance has another one now is no excuse";
  EXPECT_THAT(alarms_[0], HasSubstr("is of 1000 records"));
  clock_.advance(AuditHistory::kBetweenComparisons);
  history_->compare();
  ASSERT_EQ(alarms_.size(), 2u);
  EXPECT_THAT(alarms_[1], HasSubstr("is of 2000 records"));
}

TEST_F(Comparisons, Fault138_AnInstanceThatForgetsItsCheckpointWhileTheLogIsReadIsNoAlarm) {
  record();
  sign();
  read_copy();
  history_->hear(invented(1000));
  compare_and([this] { history_->hear(std::nullopt); });
  EXPECT_TRUE(alarms_.empty());
  EXPECT_EQ(history_->offer(), log_->newest_checkpoint());
}

}  // namespace
}  // namespace keyagent::daemon
