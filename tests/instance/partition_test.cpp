// SPDX-License-Identifier: Apache-2.0
// The network between an agent and its instance fails: what is there is still given, what was
// ordered meanwhile is done once (RELIABILITY 127, 128).

#include "tests/instance/whole_system.h"
#include "tests/support/lossy_proxy.h"

namespace keyagent::test {
namespace {

using std::chrono_literals::operator""ms;

class PartitionTest : public WholeSystem {
 protected:
  PartitionTest() {
    instance_.listen_extra =
        "  agents-url: https://127.0.0.1:" + std::to_string(proxy_.port()) + "\n";
    bring_up();
    proxy_.set_servers({instance_.agents_port()});
    enrol();
    start_worker();
    put("backup", "s3cr3t");
    gives("backup", "s3cr3t");
  }

  // A task runs, the network fails, the task ends, and another and a rekey are ordered: after it
  // heals all three arrive, once.
  void survives(const std::function<void()>& failure) {
    const auto before = submit();
    ASSERT_TRUE(wait_until([&] { return runs(before) == 1; }, kLong)) << told();
    failure();
    if (!link_becomes("unreachable")) return;
    EXPECT_NE(link().at("text"), "");
    EXPECT_EQ(get("backup"), "s3cr3t");
    host_.write("go", "");
    EXPECT_TRUE(wait_until([&] { return link().at("outcomes_waiting") == 1; }, kLong)) << told();
    const auto meanwhile = submit();
    const auto ordered = instance_.json("alice", "rekey test").at("batch").get<std::string>();
    const auto old_kid = agent().at("transport_kid").get<std::string>();
    EXPECT_EQ(task_state(before), "started");
    proxy_.heal();
    if (!link_becomes("connected")) return;
    task_becomes(before, "done");
    task_becomes(meanwhile, "done");
    EXPECT_EQ(runs(before), 1);
    EXPECT_EQ(runs(meanwhile), 1);
    confirmed(ordered);
    EXPECT_NE(agent().at("transport_kid"), old_kid);
    EXPECT_EQ(agent().at("transport_kid"), transport_kid());
    EXPECT_EQ(agent().at("previous_transport_kid"), old_kid) << "one rekey, not two";
    gives("backup", "s3cr3t");
    EXPECT_EQ(alarms("task.unknown"), 0);
  }
  void confirmed(const std::string& batch) {
    Json rekeys;
    EXPECT_TRUE(wait_until(
        [&] {
          rekeys = instance_.json("alice", "rekeys " + batch).at("rekeys");
          return rekeys.at(0).at("state") == "confirmed";
        },
        kLong))
        << rekeys << told();
  }

  LossyProxy proxy_;
};

TEST_F(PartitionTest, Fault127_InABlackholeCredentialsAreGivenAndAllIsDoneOnceAfterIt) {
  survives([&] { proxy_.hold(true, true); });
}

TEST_F(PartitionTest, Fault127_WhenOnlyTheWayToTheInstanceIsLostItIsTheSame) {
  survives([&] { proxy_.hold(true, false); });
}

TEST_F(PartitionTest, Fault127_WhenOnlyTheWayFromTheInstanceIsLostItIsTheSame) {
  survives([&] { proxy_.hold(false, true); });
}

TEST_F(PartitionTest, Fault127_WhenEveryConnectionIsResetItIsTheSame) {
  survives([&] { proxy_.reset(true); });
}

TEST_F(PartitionTest, Fault127_OnAHalfOpenConnectionItIsTheSame) {
  survives([&] { proxy_.half_open(); });
}

TEST_F(PartitionTest, T10_AReloadMeanwhileRestartsNothingAndWhatWaitsArrivesInItsOrder) {
  const auto first = submit(), second = submit();
  ASSERT_TRUE(wait_until([&] { return runs(first) + runs(second) == 2; }, kLong)) << told();
  host_.json("key create data --purpose sign --algorithm ec-p256");
  host_.write("text", "text");
  ASSERT_EQ(host_.keyagent("sign text --key data -o signature").status, 0);
  proxy_.reset(true);
  if (!link_becomes("unreachable")) return;
  int waiting = 0;
  for (const auto& ended : {second, first}) {
    host_.write("go." + ended, "");
    ++waiting;
    ASSERT_TRUE(wait_until([&] { return link().at("outcomes_waiting") == waiting; }, kLong))
        << told();
  }
  const auto pid = host_.pid();
  host_.set_policy(AgentProcess::allowing("open, status, audit, admin, credential, work"));
  host_.signal(SIGHUP);
  EXPECT_TRUE(wait_until(
      [&] { return host_.keyagent("sign text --key data -o signature").status == 3; }, kLong))
      << told();
  EXPECT_EQ(get("backup"), "s3cr3t") << "what it has is given meanwhile";
  EXPECT_EQ(link().at("outcomes_waiting"), 2) << "the reload lost nothing";
  proxy_.heal();
  if (!link_becomes("connected")) return;
  task_becomes(first, "done");
  task_becomes(second, "done");
  EXPECT_EQ(runs(first), 1);
  EXPECT_EQ(runs(second), 1);
  std::vector<std::string> arrived;
  const Json all = events();
  for (const auto& each : all)
    if (each.at("action") == "task.done") arrived.push_back(each.at("subject"));
  EXPECT_EQ(arrived, (std::vector<std::string>{second, first})) << all;
  EXPECT_EQ(host_.pid(), pid);
  EXPECT_FALSE(host_.ended());
}

TEST_F(PartitionTest, Fault128_UnderDelayTheLinkStaysAndARekeyIsConfirmed) {
  proxy_.delay(300ms);
  const auto old_kid = transport_kid();
  const auto task = submit();
  ASSERT_TRUE(wait_until([&] { return runs(task) == 1; }, kLong)) << told();
  const auto ordered = instance_.json("alice", "rekey test").at("batch").get<std::string>();
  confirmed(ordered);
  host_.write("go", "");
  task_becomes(task, "done");
  EXPECT_EQ(runs(task), 1);
  EXPECT_EQ(agent().at("previous_transport_kid"), old_kid);
  EXPECT_EQ(agent().at("transport_kid"), transport_kid());
  put("later", "n3w");
  gives("later", "n3w");
  EXPECT_EQ(link().at("state"), "connected");
}

}  // namespace
}  // namespace keyagent::test
