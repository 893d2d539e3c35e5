// SPDX-License-Identifier: Apache-2.0
// An orderly stop while the agent's own threads are inside a module that does not come back.

#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/code_of.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using testing::AnyOf;

std::size_t calls_of(const AgentProcess& agent, const std::string& function) {
  std::istringstream calls(read_text(agent.folder() / "calls"));
  std::size_t count = 0;
  for (std::string line; std::getline(calls, line);) count += line == function ? 1 : 0;
  return count;
}

bool signs_data(const AgentProcess& agent) {
  return code_of([&] {
           auto connection = agent.client();
           connection.call(AgentProcess::sign_request("data"));
         }) == Code::kOk;
}

class DaemonStop : public testing::Test {
 protected:
  DaemonStop() {
    agent_.shimmed = true;
    agent_.token_extra = "  deadline: 2s\n  stuck-exit: 120s\n";
    agent_.start();
    agent_.create("data", "sign", "ec-p256");
  }
  // The thread that rekeys is inside the module, which does not return.
  void hang_the_rekey() {
    const auto before = calls_of(agent_, "C_GenerateKeyPair");
    agent_.set_faults("C_GenerateKeyPair:from=1:hang");
    wire::Request rekey;
    rekey.mutable_rekey()->set_name("data");
    auto connection = agent_.client();
    connection.call(rekey);
    ASSERT_TRUE(wait_until([&] { return calls_of(agent_, "C_GenerateKeyPair") > before; }));
  }
  std::uint64_t uptime() const {
    auto connection = agent_.client();
    return connection.call(AgentProcess::status_request()).status().uptime_ms();
  }
  // It uses its key again, and is not half rekeyed.
  void expect_whole_after_a_start() {
    agent_.set_faults("");
    agent_.start();
    ASSERT_TRUE(agent_.serving()) << agent_.story();
    EXPECT_TRUE(wait_until([&] { return signs_data(agent_); })) << agent_.story();
  }

  AgentProcess agent_;
};

// The thread that checks the limits every ten seconds reads the socket server's counters while the
// stop waits for the thread that rekeys.
TEST_F(DaemonStop, Fault010_WhatIsAskedDuringAStopIsStillThere) {
  hang_the_rekey();
  ASSERT_TRUE(wait_until([&] { return uptime() % 10000 > 9000; }));
  agent_.signal(SIGTERM);
  EXPECT_TRUE(wait_until([&] { return !agent_.serving(); })) << "it accepts no more";
  std::this_thread::sleep_for(4s);  // elapses: the next look, before the stop is forced
  agent_.set_faults("");
  EXPECT_THAT(agent_.wait(), AnyOf(0, 4)) << agent_.story();
  expect_whole_after_a_start();
}

TEST_F(DaemonStop, Fault010_AStopDoesNotWaitForARekeyThatHangs) {
  hang_the_rekey();
  agent_.signal(SIGTERM);
  EXPECT_TRUE(wait_until([&] { return !agent_.serving(); })) << "it accepts no more";
  EXPECT_EQ(agent_.wait(), 4) << agent_.story();
  expect_whole_after_a_start();
}

// Slow is not hung: the stop is orderly, and what was begun is whole or gone.
TEST_F(DaemonStop, Fault010_AStopWaitsForACallThatIsSlow) {
  hang_the_rekey();
  agent_.signal(SIGTERM);
  EXPECT_TRUE(wait_until([&] { return !agent_.serving(); }));
  agent_.set_faults("");
  EXPECT_EQ(agent_.wait(), 0) << agent_.story();
  expect_whole_after_a_start();
}

}  // namespace
}  // namespace keyagent::test
