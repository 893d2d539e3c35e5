// SPDX-License-Identifier: Apache-2.0
// The operator's program that is asked before a key signs for ssh.

#include "agent/daemon/ssh_confirmation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/temp_folder.h"

namespace keyagent::daemon {
namespace {

using ::testing::HasSubstr;

class SshConfirmationTest : public ::testing::Test {
 protected:
  std::unique_ptr<SshConfirmation> with(const std::string& script) {
    const auto program = folder_.path() / "ask";
    std::ofstream(program) << "#!/bin/sh\ncd " << folder_.path().string() << "\n" << script;
    std::filesystem::permissions(program, std::filesystem::perms(0755));
    return std::make_unique<SshConfirmation>(
        config::SshConfirm{{"deploy"}, program, std::chrono::minutes(10)},
        [this](const policy::Principal&, audit::Event event) {
          if (disk_full) throw Error(Code::kInternal, "the log cannot be written");
          const std::lock_guard guard(mutex_);
          events_.push_back(std::move(event));
        });
  }
  void ask(SshConfirmation& confirmation, std::uint32_t uid) {
    sshagent::Question question;
    question.principal.uid = uid;
    question.key = "deploy";
    confirmation.ask(std::move(question), [this](bool yes) { ++(yes ? yes_ : no_); });
  }
  bool answered(int count) {
    return test::wait_until([&] { return yes_ + no_ == count; });
  }

  test::TempFolder folder_;
  std::atomic<int> yes_{0}, no_{0};
  std::atomic<bool> disk_full{false};
  std::mutex mutex_;
  std::vector<audit::Event> events_;  // guarded by mutex_
};

TEST_F(SshConfirmationTest, OneUidHasFourQuestionsAndAnotherOneStillHasHis) {
  const auto confirmation = with("while [ ! -e go ]; do sleep 0.05; done\n");
  for (int i = 0; i < 6; ++i) ask(*confirmation, 1000);
  EXPECT_EQ(no_, 2) << "at once";
  ask(*confirmation, 1001);
  EXPECT_EQ(no_, 2);
  EXPECT_EQ(yes_, 0);
  std::ofstream(folder_.path() / "go") << "";
  ASSERT_TRUE(answered(7));
  EXPECT_EQ(yes_, 5);
  confirmation->stop();
  EXPECT_EQ(events_.size(), 7u);
  EXPECT_THAT(events_.front().detail, HasSubstr("too many confirmations"));
}

TEST_F(SshConfirmationTest, YesThatCannotBeRecordedIsANo) {
  const auto confirmation = with("exit 0\n");
  disk_full = true;
  ask(*confirmation, 1000);
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(no_, 1);
}

TEST_F(SshConfirmationTest, StopEndsWhatRunsAndRefusesWhatComes) {
  const auto confirmation = with("sleep 1000 & echo $! > child; sleep 1000\n");
  ask(*confirmation, 1000);
  ASSERT_TRUE(test::wait_until([&] { return !test::read_text(folder_.path() / "child").empty(); }));
  confirmation->stop();
  EXPECT_EQ(no_, 1);
  ask(*confirmation, 1000);
  EXPECT_EQ(no_, 2);
  const pid_t child = std::stoi(test::read_text(folder_.path() / "child"));
  EXPECT_TRUE(test::wait_until([&] {
    const std::string stat = test::read_text("/proc/" + std::to_string(child) + "/stat");
    return stat.empty() || stat.find(") Z ") != stat.npos;
  })) << "its children end with it";
}

TEST_F(SshConfirmationTest, MissingProgramIsANo) {
  const auto confirmation = with("exit 0\n");
  std::filesystem::remove(folder_.path() / "ask");
  ask(*confirmation, 1000);
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(no_, 1);
  confirmation->stop();
  EXPECT_THAT(events_.at(0).detail, HasSubstr("cannot be run"));
}

}  // namespace
}  // namespace keyagent::daemon
