// SPDX-License-Identifier: Apache-2.0
// Tasks, through both listeners and the command, of a real keyinstanced.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

// An instance with its people, and what they do with tasks.
class TaskInstance {
 public:
  explicit TaskInstance(const std::string& lease) {
    process.extra = "times:\n  heartbeat: 1s\n  task-lease: " + lease + "\n";
    process.start();
    for (const auto& [name, role] : {std::pair{"crypto", "cryptographic-manager"},
                                     {"ops", "operator"},
                                     {"audit", "auditor"}}) {
      process.add_user(name, role);
      if (process.log_in(name).status != 0) throw std::runtime_error("no login");
    }
  }
  std::unique_ptr<SimulatedAgent> trusted(const std::string& id) {
    auto agent = std::make_unique<SimulatedAgent>(process, id);
    agent->enrol(process.json("crypto", "token").at("token"));
    return agent;
  }
  // A task's id.
  std::string submit(const std::string& words) {
    return process.json("ops", "task submit deploy " + words).at("id");
  }
  Json show(const std::string& id) { return process.json("audit", "task show " + id); }
  std::string state(const std::string& id) { return show(id).at("state"); }
  CommandResult ops(const std::string& words) { return process.keyagent("ops", "task " + words); }
  std::string alarms() {
    std::string out;
    const Json events = process.json("audit", "events --count 1000");
    for (const auto& each : events.at("events"))
      if (each.at("outcome") == "alarm") out += each.dump() + "\n";
    return out;
  }

  InstanceProcess process;
};

Json take(SimulatedAgent& agent) {
  return agent.call("POST", "/v1/tasks/take", {{"handlers", {"deploy", "restart"}}});
}
Json say(SimulatedAgent& agent, const Json& taken, const std::string& verb,
         Json request = Json::object()) {
  request["lease"] = taken.at("lease");
  return agent.call(
      "POST", "/v1/tasks/" + taken.at("task").at("id").get<std::string>() + "/" + verb, request);
}
Json end(SimulatedAgent& agent, const Json& taken, const std::string& outcome,
         const std::string& text = {}) {
  return say(agent, taken, "end", {{"outcome", outcome}, {"text", text}, {"result", "line 1\n"}});
}
Json run(SimulatedAgent& agent) {
  Json taken = take(agent);
  say(agent, taken, "start");
  return taken;
}
std::string id_of(const Json& taken) {
  return taken.at("task").at("id");
}

class InstanceTaskTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { shared_ = new TaskInstance("60s"); }
  static void TearDownTestSuite() { delete shared_; }
  TaskInstance& instance() { return *shared_; }

  static inline TaskInstance* shared_ = nullptr;
};

TEST_F(InstanceTaskTest, R11_ATaskGoesFromAPersonToAnAgentAndItsOutcomeBack) {
  const auto mine = instance().trusted("whole-1");
  auto link = mine->connect();
  std::ofstream(instance().process.work.path() / "input.json") << R"({"release":{"number":7}})";
  auto waiting = std::async(std::launch::async, [&] {
    return instance().ops(
        "submit deploy --agent whole-1 --input input.json --seconds 30 --wait --timeout 60");
  });
  SimulatedAgent::receive(*link, "tasks");
  const Json lost = take(*mine);  // its answer, on the way to the agent
  const Json taken = take(*mine);
  EXPECT_EQ(id_of(taken), id_of(lost));
  EXPECT_EQ(code_of([&] { say(*mine, lost, "start"); }), Code::kKeyState);
  EXPECT_EQ(taken.at("lease_s"), 60);
  Json task = taken.at("task");
  EXPECT_EQ(task.at("input"), (Json{{"release", {{"number", 7}}}}));
  task.erase("id");
  task.erase("input");
  EXPECT_EQ(task, (Json{{"handler", "deploy"},
                        {"credential", ""},
                        {"repeatable", false},
                        {"attempt", 1},
                        {"seconds", 30}}));
  EXPECT_EQ(say(*mine, taken, "start"), (Json{{"lease_s", 60}}));
  EXPECT_EQ(say(*mine, taken, "start"), (Json{{"lease_s", 60}}));
  EXPECT_EQ(take(*mine), (Json{{"task", nullptr}}));
  EXPECT_EQ(instance().state(id_of(taken)), "started");
  EXPECT_EQ(say(*mine, taken, "keep"), (Json{{"lease_s", 60}}));
  EXPECT_EQ(end(*mine, taken, "done", "in 3 s"), (Json{{"state", "done"}}));
  EXPECT_EQ(end(*mine, taken, "done", "in 3 s"), (Json{{"state", "done"}}));
  const auto command = waiting.get();
  EXPECT_EQ(command.status, 0) << command.output;
  EXPECT_THAT(command.output, HasSubstr("line 1"));
  const Json ended = instance().process.json("ops", "task show " + id_of(taken));
  EXPECT_EQ(ended.at("text"), "in 3 s");
  EXPECT_EQ(ended.at("result"), "line 1\n");
  EXPECT_EQ(ended.at("input"), (Json{{"release", {{"number", 7}}}}));
  EXPECT_EQ(ended.at("submitted_by"), "ops");
  // Anyone who may only see that there are tasks sees its end, and not what it carried.
  const Json seen = instance().show(id_of(taken));
  EXPECT_EQ(seen.at("text"), "in 3 s");
  EXPECT_EQ(seen.at("input"), nullptr);
  EXPECT_EQ(seen.at("result"), nullptr);
}

TEST_F(InstanceTaskTest, SubmitWithWaitReportsAFailedTask) {
  const auto mine = instance().trusted("fails-1");
  auto link = mine->connect();
  auto waiting = std::async(std::launch::async, [&] {
    return instance().ops("submit deploy --agent fails-1 --wait --timeout 60");
  });
  SimulatedAgent::receive(*link, "tasks");
  const Json taken = run(*mine);
  EXPECT_EQ(end(*mine, taken, "failed", "exit 1"), (Json{{"state", "failed"}}));
  const auto command = waiting.get();
  EXPECT_EQ(command.status, 7) << command.output;
  EXPECT_THAT(command.output, HasSubstr("exit 1"));
  EXPECT_THAT(instance().alarms(), HasSubstr(id_of(taken)));
}

TEST_F(InstanceTaskTest, AConnectingAgentIsNotifiedOnlyWhenThereIsWork) {
  const auto mine = instance().trusted("comes-1");
  instance().submit("--agent comes-1");
  auto link = mine->connect();
  SimulatedAgent::receive(*link, "tasks");
  end(*mine, run(*mine), "done");
  auto again = mine->connect();
  again->send(Json{{"type", "heartbeat"}, {"n", 1}}.dump());
  EXPECT_EQ(Json::parse(again->receive(std::chrono::seconds(10)).value()).at("type"), "heartbeat");
}

TEST_F(InstanceTaskTest, ADelayedTaskIsAnnouncedAtItsStartTime) {
  const auto mine = instance().trusted("later-1");
  auto link = mine->connect();
  const auto when = rfc3339(system_clock().now() + std::chrono::seconds(4));
  const auto id = instance().submit("--agent later-1 --at " + when);
  if (system_clock().now() < parse_rfc3339(when)) {
    EXPECT_EQ(take(*mine).at("task"), nullptr);
  }
  SimulatedAgent::receive(*link, "tasks");
  EXPECT_GE(system_clock().now(), parse_rfc3339(when));
  EXPECT_EQ(id_of(run(*mine)), id);
}

TEST_F(InstanceTaskTest, TheHighestPriorityIsFirstThenTheFirstThatWasSubmitted) {
  const auto mine = instance().trusted("order-1");
  ASSERT_EQ(instance().process.keyagent("ops", "groups order-1 ordered").status, 0);
  const auto low = instance().submit("--agent order-1 --priority -1");
  const auto first = instance().submit("--group ordered");
  const auto second = instance().submit("--agent order-1");
  const auto high = instance().submit("--agent order-1 --priority 100");
  std::vector<std::string> order;
  for (int i = 0; i < 4; ++i) order.push_back(id_of(run(*mine)));
  EXPECT_EQ(order, (std::vector<std::string>{high, first, second, low}));
}

TEST_F(InstanceTaskTest, R11_PausedHandsNothingOutDrainsAndResumes) {
  const auto mine = instance().trusted("pause-1");
  auto link = mine->connect();
  instance().submit("--agent pause-1");
  SimulatedAgent::receive(*link, "tasks");
  const Json running = run(*mine);
  const auto second = instance().submit("--agent pause-1");
  for (const std::string what : {"agent:pause-1", "handler:deploy", "all"}) {
    const Json paused = instance().process.json("ops", "task pause " + what);
    EXPECT_EQ(paused.at("pauses"), Json::array({what}));
    EXPECT_GE(paused.at("running"), 1);
    EXPECT_EQ(take(*mine).at("task"), nullptr) << what;
    EXPECT_EQ(say(*mine, running, "keep").at("lease_s"), 60);
    if (what != "all") {
      ASSERT_EQ(instance().ops("resume " + what).status, 0);
    }
  }
  ASSERT_EQ(instance().ops("pause agent:pause-1").status, 0);
  EXPECT_EQ(end(*mine, running, "done").at("state"), "done");
  EXPECT_EQ(instance().process.json("ops", "task pause agent:pause-1").at("running"), 0);
  EXPECT_THAT(instance().ops("list").output, HasSubstr("paused: agent:pause-1"));
  ASSERT_EQ(instance().ops("resume all").status, 0);
  EXPECT_EQ(take(*mine).at("task"), nullptr);
  auto fresh = mine->connect();
  SimulatedAgent::receive(*fresh, "tasks");  // at its welcome
  ASSERT_EQ(instance().ops("resume agent:pause-1").status, 0);
  SimulatedAgent::receive(*fresh, "tasks");
  EXPECT_EQ(id_of(take(*mine)), second);
  EXPECT_EQ(instance().ops("pause agent").status, 2);
}

TEST_F(InstanceTaskTest, R11_ACancelledTaskIsKeptNoLongerAndItsAgentEndsIt) {
  const auto mine = instance().trusted("cancel-1");
  const auto id = instance().submit("--agent cancel-1");
  const Json taken = run(*mine);
  EXPECT_THAT(instance().ops("cancel " + id).output, HasSubstr("is running"));
  EXPECT_EQ(code_of([&] { say(*mine, taken, "keep"); }), Code::kKeyState);
  EXPECT_EQ(end(*mine, taken, "failed", "killed"), (Json{{"state", "cancelled"}}));
  EXPECT_EQ(instance().ops("retry " + id).status, 3);
}

TEST_F(InstanceTaskTest, R11_AnotherAgentsTaskCannotBeTouchedNorTaken) {
  const auto mine = instance().trusted("own-1"), other = instance().trusted("own-2");
  instance().submit("--agent own-1");
  EXPECT_EQ(take(*other).at("task"), nullptr);
  Json taken = run(*mine);
  for (const char* verb : {"start", "keep"})
    EXPECT_EQ(code_of([&] { say(*other, taken, verb); }), Code::kKeyState) << verb;
  EXPECT_EQ(code_of([&] { end(*other, taken, "done"); }), Code::kKeyState);
  Json forged = taken;
  forged["lease"] = to_base64url(Bytes(32, 1));
  EXPECT_EQ(code_of([&] { end(*mine, forged, "done"); }), Code::kKeyState);
  forged["lease"] = "not base64url=";
  EXPECT_EQ(code_of([&] { end(*mine, forged, "done"); }), Code::kUsage);
  EXPECT_EQ(code_of([&] { end(*mine, taken, "finished"); }), Code::kUsage);
  EXPECT_EQ(end(*mine, taken, "done").at("state"), "done");
  ASSERT_EQ(instance().process.keyagent("crypto", "suspend own-1 --reason test").status, 0);
  EXPECT_EQ(code_of([&] { take(*mine); }), Code::kKeyState);
}

TEST_F(InstanceTaskTest, RolesMaySeeTasksAndOnlyOperatorsMayMakeThem) {
  const auto mine = instance().trusted("roles-1");
  const auto id = instance().submit("--agent roles-1 --key once");
  for (const std::string who : {"crypto", "audit"}) {
    for (const std::string words : {"submit deploy --agent roles-1", "pause all", "resume all"})
      EXPECT_EQ(instance().process.keyagent(who, "task " + words).status, 3) << who << words;
    EXPECT_EQ(instance().process.keyagent(who, "task cancel " + id).status, 3);
    EXPECT_EQ(instance().process.keyagent(who, "task retry " + id).status, 3);
    EXPECT_EQ(instance().process.keyagent(who, "task list").status, 0);
  }
  EXPECT_EQ(instance().submit("--agent roles-1 --key once"), id);
  const auto other = instance().ops("submit deploy --agent roles-1 --key once --priority 3");
  EXPECT_NE(other.status, 0);
  EXPECT_THAT(other.output, HasSubstr(id));
  EXPECT_EQ(instance().ops("submit deploy --agent nobody").status, 2);
  EXPECT_EQ(instance().ops("submit deploy").status, 2);
  EXPECT_EQ(instance().ops("show " + std::string(32, '0')).status, 2);
  const Json list = instance().process.json("audit", "task list --agent roles-1 --state queued");
  ASSERT_EQ(list.at("tasks").size(), 1u);
  EXPECT_EQ(list.at("tasks").at(0).at("target"), "agent:roles-1");
}

TEST(InstanceTaskLease, R11_WhatRunsOutIsGivenAgainOnlyWhereItMayBe) {
  TaskInstance instance("5s");
  const auto mine = instance.trusted("lost-1");
  const auto single = instance.submit("--agent lost-1");
  const Json first = run(*mine);
  const auto repeatable = instance.submit("--agent lost-1 --repeatable");
  const Json second = run(*mine);
  const auto unstarted = instance.submit("--agent lost-1 --priority 1");
  const Json third = take(*mine);
  auto link = mine->connect();
  ASSERT_EQ(id_of(third), unstarted);
  const auto becomes = [&](const std::string& id, const std::string& state) {
    return wait_until([&] { return instance.state(id) == state; }, std::chrono::seconds(60));
  };
  EXPECT_TRUE(becomes(unstarted, "queued"));
  EXPECT_EQ(instance.show(unstarted).at("attempt"), 0);
  EXPECT_TRUE(becomes(single, "unknown"));
  EXPECT_TRUE(becomes(repeatable, "queued"));
  EXPECT_EQ(instance.show(repeatable).at("attempt"), 1);
  SimulatedAgent::receive(*link, "tasks");
  const Json again = run(*mine);
  EXPECT_EQ(id_of(again), unstarted);
  EXPECT_EQ(again.at("task").at("attempt"), 1);
  EXPECT_EQ(end(*mine, again, "done").at("state"), "done");
  EXPECT_EQ(code_of([&] { end(*mine, third, "done"); }), Code::kKeyState);
  EXPECT_EQ(end(*mine, second, "done", "late").at("state"), "done");
  EXPECT_THAT(instance.alarms(), HasSubstr(single));
  EXPECT_EQ(end(*mine, first, "done", "late").at("state"), "done");
  EXPECT_EQ(take(*mine).at("task"), nullptr);
}

TEST(InstanceTaskLease, R11_AnInstanceThatIsKilledLosesNothingAndGivesNothingTwice) {
  TaskInstance instance("60s");
  const auto mine = instance.trusted("kill-1");
  const auto id = instance.submit("--agent kill-1"), queued = instance.submit("--agent kill-1");
  const Json taken = run(*mine);
  EXPECT_EQ(id_of(taken), id);
  instance.process.end(SIGKILL);
  EXPECT_NE(code_of([&] { end(*mine, taken, "done"); }), Code::kOk);
  instance.process.start();
  EXPECT_EQ(instance.state(id), "started");
  EXPECT_EQ(say(*mine, taken, "keep").at("lease_s"), 60);
  const Json other = run(*mine);
  EXPECT_EQ(id_of(other), queued);
  EXPECT_EQ(take(*mine).at("task"), nullptr);
  EXPECT_EQ(end(*mine, taken, "done").at("state"), "done");
  instance.process.end(SIGKILL);
  instance.process.start();
  EXPECT_EQ(end(*mine, taken, "done").at("state"), "done");
  EXPECT_EQ(end(*mine, other, "done").at("state"), "done");
  EXPECT_EQ(take(*mine).at("task"), nullptr);
  EXPECT_EQ(instance.show(id).at("attempt"), 1);
  EXPECT_EQ(instance.show(queued).at("attempt"), 1);
}

}  // namespace
}  // namespace keyagent::test
