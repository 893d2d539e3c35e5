// The whole: a real instance on its host's token, a real agent on another, and the commands.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/e2e/host.h"
#include "tests/instance/instance_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class WholeTest : public testing::Test {
 protected:
  WholeTest() {
    instance_.start();
    instance_.add_user("alice", "admin");
    EXPECT_EQ(instance_.log_in("alice").status, 0);
    host_.Host::AgentProcess::write(
        "policy.yml",
        "rules:\n  - name: root\n    allow: [open, sign, public, create, destroy, rekey, status, "
        "audit, admin, credential]\n    who: {user: \"" +
            std::to_string(::geteuid()) + "\"}\n",
        0644);
    host_.start();
    host_.json("key create credentials --purpose transport --algorithm ec-p256");
  }
  void enrol(const std::string& more = {}) {
    ASSERT_EQ(instance_.keyagent("alice", "token -o " + host_.file("token").string() + more).status,
              0);
    const auto enrolled =
        host_.keyagent("enroll " + instance_.api_url() + " --token-file token --wait --timeout 60");
    ASSERT_EQ(enrolled.status, 0) << enrolled.output << host_.story() << read_text(instance_.log());
  }
  void put(const std::string& name, const std::string& secret, const std::string& more = {}) {
    std::ofstream(instance_.work.path() / "value.json") << "{\"token\":\"" << secret << "\"}";
    const auto result =
        instance_.keyagent("alice", "credential put " + name +
                                        " --type api-token --from value.json --agent test" + more);
    ASSERT_EQ(result.status, 0) << result.output;
  }
  std::string get(const std::string& name) {
    const auto result = host_.keyagent("credential get " + name);
    EXPECT_EQ(result.status, 0) << result.output;
    // A note to standard error may stand before it.
    const auto at = std::min(result.output.find('{'), result.output.size());
    const Json value = Json::parse(result.output.substr(at), nullptr, false);
    return value.is_object() ? value.value("token", "") : result.output;
  }
  Json agent() { return instance_.json("alice", "agents test").at("agents").at(0); }

  InstanceProcess instance_;
  Host host_;
};

TEST_F(WholeTest, T1_R4_R5_TwoCommandsASideAndACredentialIsThere) {
  enrol();
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
  enrol();
  put("backup", "always there");
  get("backup");
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

TEST_F(WholeTest, R14_R15_AnInstanceThatRestartsKnowsItsAgentsAndARevokedOneGetsNothing) {
  enrol();
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
