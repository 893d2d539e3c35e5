// SPDX-License-Identifier: Apache-2.0
// Keys of an instance that its agents pinned (RELIABILITY 144): a rekey is refused, and the fix
// that the refusal prints works.

#include "tests/instance/whole_system.h"

namespace keyagent::test {

using testing::HasSubstr;

class PinnedKeysTest : public WholeSystem {
 protected:
  // At the agent of the instance's host.
  CommandResult there(const std::string& words) const {
    return try_command("KEYAGENT_SOCKET=" + instance_.agent.socket().string() + " " KEYAGENT " " +
                       words + " 2>&1");
  }
};

TEST_F(PinnedKeysTest, R7_ARekeyIsRefusedAndAnotherConfirmationKeyIsTakenByAgentsThatEnrollAgain) {
  instance_.extra = "times:\n  heartbeat: 1s\n";
  bring_up();
  enrol();
  for (const std::string key : {"instance-confirm", "instance-ca"}) {
    const auto refused = there("rekey " + key);
    EXPECT_EQ(refused.status, 3) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr("agents pinned it"));
  }
  ASSERT_EQ(host_.keyagent("rekey credentials --wait").status, 0) << told();
  // As the refusal says.
  const auto created = there("key create confirm-2 --purpose confirm");
  ASSERT_EQ(created.status, 0) << created.output;
  ASSERT_EQ(instance_.end(SIGTERM), 0);
  instance_.agent_extra = "  confirmation-key: confirm-2\n";
  instance_.start();
  ASSERT_EQ(
      instance_.keyagent("alice", "token --agent test -o " + host_.file("again").string()).status,
      0);
  const auto enrolled = host_.keyagent("enroll " + instance_.api_url() +
                                       " --replace --token-file again --wait --timeout 60");
  ASSERT_EQ(enrolled.status, 0) << enrolled.output << told();
  ASSERT_TRUE(link_becomes("connected"));
  const auto rekeyed = host_.keyagent("rekey credentials --wait");
  EXPECT_EQ(rekeyed.status, 0) << rekeyed.output << told();
}

}  // namespace keyagent::test
