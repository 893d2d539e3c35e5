// SPDX-License-Identifier: Apache-2.0
// One agent that runs twice: its state folder and its token's files were copied (RELIABILITY 168).

#include "tests/instance/whole_system.h"

namespace keyagent::test {

using testing::HasSubstr;
using testing::Not;

class ClonedTest : public WholeSystem {
 protected:
  void SetUp() override {
    instance_.extra = "times:\n  heartbeat: 1s\n";
    bring_up();
    enrol();
    put("backup", "s3cr3t");
    ASSERT_TRUE(gives("backup", "s3cr3t"));
  }
  // REQUIRES: the host's agent has ended.
  void copy_host() {
    twin_.token_uri = host_.uri();
    for (const std::string name : {"state", "tokens"}) {
      std::filesystem::remove_all(twin_.folder() / name);
      run_command("cp -a '" + (host_.folder() / name).string() + "' '" +
                  (twin_.folder() / name).string() + "'");
    }
  }
  static std::string state_of(Host& host) { return host.json("status").at("link").at("state"); }
  bool is_refused(Host& host) {
    const bool refused = wait_until([&] { return state_of(host) == "refused_by_peer"; }, kLong);
    EXPECT_TRUE(refused) << state_of(host) << host.story() << told();
    return refused;
  }
  // The first to start continues from the state; the second is detected.
  void run_both(Host& first, Host& second) {
    ASSERT_EQ(host_.stop(), 0);
    copy_host();
    first.start();
    ASSERT_TRUE(wait_until([&] { return state_of(first) == "connected"; }, kLong)) << told();
    second.start();
    ASSERT_TRUE(wait_until([this] { return agent().at("state") == "suspended"; }, kLong)) << told();
    EXPECT_THAT(agent().at("reason").get<std::string>(), HasSubstr("cloned"));
    EXPECT_EQ(alarms("agent.cloned"), 1);
    for (Host* each : {&first, &second}) {
      EXPECT_TRUE(is_refused(*each));
      EXPECT_THAT(each->keyagent("credential get backup").output, Not(HasSubstr("s3cr3t")));
    }
  }
  Host twin_;
};

TEST_F(ClonedTest, Fault134_Fault168_ACopyIsFoundAndBothStopUntilAnOperatorDecides) {
  run_both(host_, twin_);
  twin_.stop();
  const auto resumed = instance_.keyagent("alice", "resume test");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_TRUE(gives("backup", "s3cr3t"));
  // Should the other one come again, it is found again.
  twin_.start();
  EXPECT_TRUE(wait_until([this] { return alarms("agent.cloned") == 2; }, kLong)) << told();
}

TEST_F(ClonedTest, Fault134_Fault168_TheOriginalIsFoundWhenTheCopyCameFirst) {
  run_both(twin_, host_);
}

TEST_F(ClonedTest, Fault168_RestartsAndKillsAreNotReportedAsCopies) {
  for (int i = 0; i < 3; ++i) {
    host_.kill();
    host_.start();
    ASSERT_TRUE(link_becomes("connected"));
  }
  ASSERT_EQ(instance_.end(SIGKILL), 128 + SIGKILL);
  instance_.start();
  ASSERT_TRUE(link_becomes("connected"));
  EXPECT_EQ(agent().at("state"), "trusted");
  EXPECT_EQ(alarms("agent.cloned"), 0);
}

}  // namespace keyagent::test
