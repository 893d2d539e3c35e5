// SPDX-License-Identifier: Apache-2.0
// The whole: a real instance on its host's token, a real agent on another, and the commands.

#include <atomic>
#include <thread>

#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class WholeTest : public WholeSystem {
 protected:
  WholeTest() {
    bring_up();
    enrol();
  }
};

TEST_F(WholeTest, T1_R4_R5_TwoCommandsASideAndACredentialIsThere) {
  EXPECT_TRUE(wait_until([&] { return agent().at("shown") == "up"; }));
  EXPECT_EQ(agent().at("auth_kid"), host_.json("status").at("link").at("auth_kid"));
  put("backup", "open sesame");
  EXPECT_EQ(get("backup"), "open sesame");
  put("backup", "new one");
  EXPECT_TRUE(wait_until([&] { return get("backup") == "new one"; }));
  put("unseen", "sealed at its author's", " --blind");
  EXPECT_TRUE(wait_until([&] { return host_.keyagent("credential get unseen").status == 0; }));
  EXPECT_EQ(get("unseen"), "sealed at its author's");
}

TEST_F(WholeTest, R6_R10_ARekeyOrderedByTheInstanceLosesNoCredential) {
  put("backup", "always there");
  ASSERT_TRUE(gives("backup", "always there"));
  const auto before = agent().at("transport_kid").get<std::string>();
  std::atomic<bool> done{false};
  std::atomic<int> reads{0}, failures{0};
  std::thread reader([&] {
    while (!done) {
      const auto result = host_.keyagent("credential get backup");
      ++reads;
      if (result.status != 0 || result.output.find("always there") == std::string::npos) ++failures;
    }
  });
  const auto rekey = instance_.keyagent("alice", "rekey test --wait --timeout 100");
  done = true;
  reader.join();
  EXPECT_EQ(rekey.status, 0) << rekey.output << host_.story();
  EXPECT_EQ(failures, 0);
  EXPECT_GT(reads, 0);
  EXPECT_NE(agent().at("transport_kid"), before);
  EXPECT_EQ(agent().at("previous_transport_kid"), before);
  EXPECT_EQ(get("backup"), "always there");
  EXPECT_THAT(host_.audit(), HasSubstr(agent().at("transport_kid").get<std::string>()));
}

TEST_F(WholeTest, R3_AnInstanceThatRestartsKnowsItsAgentsAndARevokedOneGetsNothing) {
  put("backup", "s3cr3t");
  get("backup");
  EXPECT_EQ(instance_.end(SIGTERM), 0);
  EXPECT_EQ(get("backup"), "s3cr3t");  // the last copy, while the instance is away
  instance_.start();
  EXPECT_TRUE(wait_until([&] { return agent().at("shown") == "up"; }, std::chrono::seconds(60)));
  ASSERT_EQ(instance_.keyagent("alice", "revoke test --reason stolen").status, 0);
  EXPECT_TRUE(
      wait_until([&] { return host_.json("status").at("link").at("state") == "refused_by_peer"; },
                 std::chrono::seconds(60)))
      << host_.story();
  EXPECT_NE(host_.keyagent("credential get backup").status, 0);
}

}  // namespace
}  // namespace keyagent::test
