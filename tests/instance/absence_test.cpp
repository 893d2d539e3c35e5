// SPDX-License-Identifier: Apache-2.0
// What an agent does while its instance is away, and what it says of its link (MISSION T7, T10): a
// real instance that is killed, a real agent and its worker.

#include "agent/base/encoding.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

class AbsenceTest : public WholeSystem {
 protected:
  // As user nobody where that is possible: see start_worker().
  void start_parallel_worker() {
    std::ofstream(host_.file("runs")).close();
    std::filesystem::permissions(host_.file("runs"), std::filesystem::perms(0666));
    worker_.handler("note",
                    "echo $KEYAGENT_TASK_ID >>runs\n"
                    "while ! [ -e go.$KEYAGENT_TASK_ID ]; do sleep 0.05; done\necho noted\n",
                    std::string(", parallel: 8") + (::geteuid() == 0 ? ", user: nobody" : ""));
    worker_.start();
  }
  // Tasks in the order in which their results reached the instance.
  std::vector<std::string> ended() {
    std::vector<std::string> out;
    const Json all = events();
    for (const auto& each : all)
      if (each.at("action") == "task.done" || each.at("action") == "task.end")
        out.push_back(each.at("subject"));
    return out;
  }
};

TEST_F(AbsenceTest, T10_OutcomesQueueWhileTheInstanceIsAwayAndComeInTheirOrder) {
  instance_.extra = "times:\n  heartbeat: 1s\n  task-lease: 120s\n";
  bring_up();
  enrol();
  start_parallel_worker();
  std::vector<std::string> tasks;
  for (int i = 0; i < 6; ++i) tasks.push_back(submit());
  for (const auto& each : tasks)
    ASSERT_TRUE(wait_until([&] { return runs(each) == 1; }, kLong)) << told();
  ASSERT_EQ(instance_.end(SIGKILL), 128 + SIGKILL);
  // Not in the order of their submission, and the agent is killed in the middle.
  const std::vector<std::string> order{tasks[3], tasks[0], tasks[5], tasks[1], tasks[4], tasks[2]};
  for (std::size_t i = 0; i < order.size(); ++i) {
    host_.write("go." + order[i], "");
    ASSERT_TRUE(wait_until([&] { return link().at("outcomes_waiting") == i + 1; }, kLong))
        << link() << told();
    if (i != 2) continue;
    host_.kill();
    host_.start();
    ASSERT_TRUE(host_.serving()) << host_.story();
    ASSERT_EQ(link().at("outcomes_waiting"), i + 1) << "they outlive it";
  }
  instance_.start();
  ASSERT_TRUE(link_becomes("connected"));
  for (const auto& each : tasks) EXPECT_TRUE(task_becomes(each, "done"));
  EXPECT_THAT(ended(), ElementsAreArray(order)) << events();
  for (const auto& each : tasks) EXPECT_EQ(runs(each), 1);
  EXPECT_EQ(link().at("outcomes_waiting"), 0);
}

TEST_F(AbsenceTest, T7_LogAndStatusShowThePeerBothCertificatesAndTheLastAnswer) {
  bring_up();
  enrol();
  ASSERT_TRUE(link_becomes("connected"));
  const Json shown = link();
  EXPECT_EQ(shown.at("tls_version"), "TLSv1.3");
  EXPECT_EQ(shown.at("peer"), "127.0.0.1:" + std::to_string(instance_.agents_port()));
  EXPECT_EQ(shown.at("auth_kid"), agent().at("auth_kid"));
  for (const char* name : {"serial", "peer_serial"})
    EXPECT_THAT(shown.at(name).get<std::string>(), testing::MatchesRegex("[0-9a-f]+")) << name;
  EXPECT_NE(shown.at("serial"), shown.at("peer_serial"));
  const auto now = system_clock().now();
  for (const char* name : {"not_after", "peer_not_after"})
    EXPECT_GT(parse_rfc3339(shown.at(name).get<std::string>()), now) << name;
  // The instance says the same of it.
  EXPECT_EQ(agent().at("tls").at("version"), "TLSv1.3");
  const std::string log = read_text(host_.log());
  for (const char* name :
       {"peer", "tls_version", "serial", "not_after", "peer_serial", "peer_not_after", "auth_kid"})
    EXPECT_THAT(log, HasSubstr(shown.at(name).get<std::string>())) << name;
  // It moves while heartbeats are acknowledged, and stands when they are not.
  const std::string first = shown.at("last_heartbeat");
  EXPECT_TRUE(wait_until([&] { return link().at("last_heartbeat") > first; }, kLong));
  ASSERT_EQ(instance_.end(SIGKILL), 128 + SIGKILL);
  ASSERT_TRUE(link_becomes("unreachable"));
  EXPECT_NE(link().at("code"), "OK");
  EXPECT_THAT(read_text(host_.log()), HasSubstr("last acknowledged 2"));
}

TEST_F(AbsenceTest, T10_APolicyIsReloadedWithoutARestartAndTheLinkStays) {
  bring_up();
  enrol();
  put("backup", "s3cr3t");
  ASSERT_TRUE(gives("backup", "s3cr3t"));
  const auto connected = link().at("since");
  const auto pid = host_.pid();
  const std::string all = host_.policy;
  host_.set_policy(AgentProcess::allowing("status, admin"));
  host_.signal(SIGHUP);
  EXPECT_TRUE(
      wait_until([&] { return host_.keyagent("credential get backup").status == 3; }, kLong))
      << host_.story();
  // One that is wrong changes nothing.
  host_.set_policy("rules:\n  - name: x\n    alow: [open]\n");
  host_.signal(SIGHUP);
  const std::string refusal = "the previous policy stays in effect";
  EXPECT_TRUE(
      wait_until([&] { return read_text(host_.log()).find(refusal) != std::string::npos; }, kLong))
      << host_.story();
  EXPECT_EQ(host_.keyagent("credential get backup").status, 3);
  host_.set_policy(all);
  host_.signal(SIGHUP);
  EXPECT_TRUE(gives("backup", "s3cr3t"));
  EXPECT_EQ(host_.pid(), pid);
  EXPECT_FALSE(host_.ended());
  EXPECT_EQ(link().at("since"), connected) << "the session is the one of before";
}

}  // namespace
}  // namespace keyagent::test
