// SPDX-License-Identifier: Apache-2.0
// Tasks on a real store, with a clock that the test moves.

#include "agent/instance/tasks/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/store/agents.h"
#include "agent/store/events.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class TasksTest : public testing::Test {
 protected:
  TasksTest() {
    for (const char* id : {"web1", "web2"}) {
      store::Agent agent;
      agent.id = agent.auth_kid = id;
      agent.state = "trusted";
      agent.groups = {"web"};
      store_.agents().add(agent);
    }
    tasks_.tick();
    pass(rules_.lease);  // the quiet after a start
  }

  std::string submit(const Json& more = Json::object()) {
    Json request{{"handler", "deploy"}, {"agent", "web1"}, {"input", {{"n", 1}}}};
    for (const auto& [name, value] : more.items()) request[name] = value;
    if (more.contains("group")) request.erase("agent");
    return tasks_.submit(request, "ops").at("id");
  }
  Json take(const std::string& agent = "web1") {
    return tasks_.take(store_.agents().find(agent).value(), {{"handlers", {"deploy"}}});
  }
  // Takes and starts.
  Json run(const std::string& agent = "web1") {
    const Json taken = take(agent);
    tasks_.start(agent, id_of(taken), lease_of(taken));
    return taken;
  }
  static std::string id_of(const Json& taken) { return taken.at("task").at("id"); }
  static Json lease_of(const Json& taken) { return {{"lease", taken.at("lease")}}; }
  std::string end(const Json& taken, const std::string& outcome, const std::string& text = {},
                  const std::string& agent = "web1") {
    Json request = lease_of(taken);
    request["outcome"] = outcome;
    request["text"] = text;
    return tasks_.end(agent, id_of(taken), request).at("state");
  }
  Code keep(const Json& taken) {
    return code_of([&] { tasks_.keep("web1", id_of(taken), lease_of(taken)); });
  }
  Json show(const std::string& id,
            const AuthenticatedUser& person = {"ops", Role::kOperator}) const {
    return tasks_.show(id, person);
  }
  std::string state(const std::string& id) const { return show(id).at("state"); }
  void pass(std::chrono::milliseconds time) {
    clock_.advance(time);
    tasks_.tick();
  }
  int alarms(const std::string& id) {
    int count = 0;
    for (const auto& each : store_.events().list(0, 1000))
      count += each.outcome == "alarm" && each.subject == id ? 1 : 0;
    return count;
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  store::Store store_{{"sqlite://" + (folder_.path() / "store/instance.db").string()}};
  Recorder recorder_{store_, clock_};
  NoFollowers followers_;
  Links links_{store_, clock_, 15s, followers_};
  TaskRules rules_{60s, 1h, 3};
  Tasks tasks_{store_, links_, recorder_, clock_, rules_};
};

TEST_F(TasksTest, Fault161_InputAndResultAreForTheSubmitterOperatorsAndAdminsOnly) {
  const std::string id =
      tasks_.submit({{"handler", "deploy"}, {"agent", "web1"}, {"input", {{"n", 1}}}}, "ci")
          .at("id");
  const auto sees = [&](const AuthenticatedUser& person) {
    const Json task = show(id, person);
    EXPECT_EQ(task.at("handler"), "deploy");
    EXPECT_EQ(task.at("input").is_null(), task.at("result").is_null());
    return !task.at("input").is_null();
  };
  EXPECT_TRUE(sees({"ci", Role::kAuditor}));
  EXPECT_TRUE(sees({"ops", Role::kOperator}));
  EXPECT_TRUE(sees({"root", Role::kAdmin}));
  EXPECT_FALSE(sees({"audit", Role::kAuditor}));
  EXPECT_FALSE(sees({"crypto", Role::kCryptographicManager}));
}

TEST_F(TasksTest, R11_ALeaseThatRunsOutBeforeTheStartIsGivenAgainAndDoesNotCount) {
  const auto id = submit();
  const Json lost = take();
  pass(59s);
  EXPECT_EQ(state(id), "leased");
  pass(2s);
  EXPECT_EQ(state(id), "queued");
  EXPECT_EQ(show(id).at("attempt"), 0);
  EXPECT_EQ(code_of([&] { tasks_.start("web1", id, lease_of(lost)); }), Code::kKeyState);
  const Json taken = take();
  EXPECT_EQ(id_of(taken), id);
  EXPECT_EQ(taken.at("task").at("attempt"), 1);
  EXPECT_EQ(keep(lost), Code::kKeyState);
  EXPECT_EQ(code_of([&] { end(lost, "done"); }), Code::kKeyState);
  EXPECT_EQ(state(id), "leased");
}

TEST_F(TasksTest, R11_AnAgentLostWhileItRanLeavesWhatMayBeRepeatedToTheNextAttempt) {
  const auto id = submit({{"repeatable", true}, {"attempts", 2}});
  run();
  pass(61s);
  EXPECT_EQ(state(id), "queued");
  EXPECT_EQ(take().at("task"), nullptr);  // it waits a little
  pass(13s);
  const Json second = run();
  EXPECT_EQ(id_of(second), id);
  EXPECT_EQ(second.at("task").at("attempt"), 2);
  EXPECT_EQ(alarms(id), 0);
  pass(61s);  // none is left
  EXPECT_EQ(state(id), "unknown");
  EXPECT_EQ(alarms(id), 1);
}

TEST_F(TasksTest, R11_WhatMayNotBeRepeatedIsUnknownAndAnAlarmOnceUntilAnOperatorDecides) {
  const auto id = submit();
  run();
  pass(61s);
  pass(1h - 2min);
  EXPECT_EQ(state(id), "unknown");
  EXPECT_EQ(alarms(id), 1);
  EXPECT_THAT(show(id).at("text").get<std::string>(), HasSubstr("outcome is unknown"));
  EXPECT_EQ(take().at("task"), nullptr);
  EXPECT_EQ(tasks_.retry(id, "ops").at("state"), "queued");
  const Json again = take();
  EXPECT_EQ(id_of(again), id);
  EXPECT_EQ(again.at("task").at("attempt"), 2);
}

TEST_F(TasksTest, AKeptLeaseDoesNotRunOut) {
  const auto id = submit();
  const Json taken = run();
  for (int i = 0; i < 10; ++i) {
    pass(40s);
    EXPECT_EQ(keep(taken), Code::kOk);
  }
  EXPECT_EQ(state(id), "started");
  EXPECT_EQ(tasks_.start("web1", id, lease_of(taken)).at("lease_s"), 60);  // once more
  EXPECT_EQ(end(taken, "done"), "done");
}

TEST_F(TasksTest, R11_ALateResultIsAcceptedWhileNoOtherAgentHasTheTask) {
  const auto unknown = submit();
  const Json first = run();
  pass(61s);
  ASSERT_EQ(state(unknown), "unknown");
  EXPECT_EQ(end(first, "done", "late"), "done");
  EXPECT_EQ(show(unknown).at("text"), "late");

  const auto queued = submit({{"repeatable", true}});
  const Json second = run();
  pass(61s);
  ASSERT_EQ(state(queued), "queued");
  EXPECT_EQ(end(second, "done"), "done");

  const auto leased = submit();
  EXPECT_EQ(end(take(), "done"), "done");  // from a journal: it ran under an earlier lease
  EXPECT_EQ(state(leased), "done");
}

TEST_F(TasksTest, R11_TheSameEndAgainChangesNothingAndAnotherOneIsRefused) {
  const auto id = submit();
  const Json taken = run();
  EXPECT_EQ(end(taken, "failed", "exit 1"), "failed");
  EXPECT_EQ(end(taken, "failed", "exit 1"), "failed");
  EXPECT_EQ(alarms(id), 1);
  EXPECT_EQ(code_of([&] { end(taken, "done"); }), Code::kKeyState);
  EXPECT_EQ(code_of([&] { end(taken, "failed", "exit 2"); }), Code::kKeyState);
  // Said again after an operator's retry it ends the next attempt no more.
  tasks_.retry(id, "ops");
  EXPECT_EQ(end(taken, "failed", "exit 1"), "queued");
  EXPECT_EQ(state(id), "queued");
  EXPECT_EQ(take().at("task").at("attempt"), 2);
}

TEST_F(TasksTest, ARetryWaitsTwiceAsLongEachTimeUntilNoAttemptIsLeft) {
  const auto id = submit({{"attempts", 3}});
  EXPECT_EQ(end(run(), "retry", "not yet"), "queued");
  pass(7s);
  EXPECT_EQ(take().at("task"), nullptr);
  pass(6s);
  EXPECT_EQ(end(run(), "retry"), "queued");
  pass(15s);
  EXPECT_EQ(take().at("task"), nullptr);
  pass(10s);
  EXPECT_EQ(end(run(), "retry"), "failed");
  EXPECT_EQ(show(id).at("attempt"), 3);
  EXPECT_EQ(alarms(id), 1);
  // An operator's retry is one more.
  tasks_.retry(id, "ops");
  EXPECT_EQ(show(id).at("attempts"), 4);
  EXPECT_EQ(end(run(), "retry"), "failed");
  EXPECT_EQ(alarms(id), 2);
}

TEST_F(TasksTest, AFailureIsRepeatedOnlyWhereItMayBe) {
  submit();
  EXPECT_EQ(end(run(), "failed"), "failed");
  submit({{"repeatable", true}});
  EXPECT_EQ(end(run(), "failed"), "queued");
}

TEST_F(TasksTest, CancelledBeforeItStartsIsCancelledAtOnceAndWhileItRunsWhenItsLeaseEnds) {
  const auto queued = submit();
  EXPECT_EQ(tasks_.cancel(queued, "ops").at("state"), "cancelled");
  EXPECT_EQ(tasks_.cancel(queued, "ops").at("state"), "cancelled");
  const auto leased = submit();
  const Json taken = take();
  EXPECT_EQ(tasks_.cancel(leased, "ops").at("state"), "cancelled");
  EXPECT_EQ(code_of([&] { tasks_.start("web1", leased, lease_of(taken)); }), Code::kKeyState);

  const auto killed = submit();
  const Json first = run();
  EXPECT_EQ(tasks_.cancel(killed, "ops").at("state"), "started");
  EXPECT_EQ(keep(first), Code::kKeyState);
  EXPECT_EQ(end(first, "failed", "killed"), "cancelled");

  const auto silent = submit({{"repeatable", true}});
  run();
  tasks_.cancel(silent, "ops");
  pass(61s);
  EXPECT_EQ(state(silent), "cancelled");

  const auto ready = submit();
  const Json last = run();
  tasks_.cancel(ready, "ops");
  EXPECT_EQ(end(last, "done"), "done");  // it was done before the agent knew
  EXPECT_EQ(code_of([&] { tasks_.cancel(ready, "ops"); }), Code::kKeyState);
  for (const auto& each : store_.events().list(0, 100))
    EXPECT_NE(each.outcome, "alarm") << each.text;
}

TEST_F(TasksTest, R11_ALeaseIsOfOneAgentAndOneTaskAndEveryOtherGetsOneAnswer) {
  const auto id = submit();
  const Json taken = run();
  const Json wrong{{"lease", to_base64url(Bytes(32, 7))}};
  std::set<std::string> answers;
  const auto refused = [&](const std::string& agent, const std::string& task, const Json& lease) {
    try {
      tasks_.keep(agent, task, lease);
      ADD_FAILURE() << agent << " " << task;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kKeyState);
      answers.insert(error.what());
    }
  };
  refused("web1", id, wrong);
  refused("web2", id, lease_of(taken));
  refused("web1", std::string(32, '0'), lease_of(taken));
  const auto never = submit();
  refused("web1", never, {{"lease", ""}});
  EXPECT_EQ(answers, std::set<std::string>{"the lease of this task has expired"});
  EXPECT_EQ(take("web2").at("task"), nullptr);
  EXPECT_EQ(keep(taken), Code::kOk);
}

TEST_F(TasksTest, AGroupsTaskIsTakenByOneOfItAndAfterItsLossByAnother) {
  const auto id = submit({{"group", "web"}, {"repeatable", true}});
  const Json first = run("web1");
  EXPECT_EQ(take("web2").at("task"), nullptr);
  pass(61s);
  pass(13s);
  const Json second = run("web2");
  EXPECT_EQ(id_of(second), id);
  EXPECT_EQ(show(id).at("agent"), "web2");
  EXPECT_EQ(code_of([&] { end(first, "done"); }), Code::kKeyState);
  EXPECT_EQ(end(second, "done", "", "web2"), "done");
}

TEST_F(TasksTest, R11_AClockThatJumpsForwardEndsNoLease) {
  const auto id = submit();
  const Json taken = run();
  clock_.set(clock_.now() + 24h);
  tasks_.tick();
  EXPECT_EQ(state(id), "started");
  pass(20s);
  EXPECT_EQ(keep(taken), Code::kOk);
  pass(41s);  // a lease after the jump: who has not kept theirs is lost
  EXPECT_EQ(state(id), "started");
  pass(20s);
  EXPECT_EQ(state(id), "unknown");
}

TEST_F(TasksTest, AClockThatJumpsBackKeepsNoLeaseForLonger) {
  const auto id = submit();
  run();
  clock_.set(clock_.now() - 24h);
  tasks_.tick();
  EXPECT_EQ(state(id), "started");
  pass(30s);
  EXPECT_EQ(state(id), "started");
  pass(31s);
  EXPECT_EQ(state(id), "unknown");
}

TEST_F(TasksTest, R11_LeasesThatRanOutWhileTheInstanceWasAwayMayStillBeKept) {
  const auto id = submit();
  const Json taken = run();
  clock_.advance(10min);
  Tasks started(store_, links_, recorder_, clock_, rules_);
  started.tick();
  EXPECT_EQ(state(id), "started");
  clock_.advance(59s);
  started.tick();
  EXPECT_EQ(started.keep("web1", id, lease_of(taken)).at("lease_s"), 60);
  clock_.advance(2s);
  started.tick();
  EXPECT_EQ(state(id), "started");
}

TEST_F(TasksTest, RequestsAndResultsBeyondTheLimitsAreRefused) {
  const auto refused = [&](const Json& more) { return code_of([&] { submit(more); }); };
  EXPECT_EQ(refused({{"input", {{"x", std::string(64 << 10, 'x')}}}}), Code::kUsage);
  EXPECT_EQ(refused({{"input", "text"}}), Code::kUsage);
  EXPECT_EQ(refused({{"handler", "../deploy"}}), Code::kUsage);
  EXPECT_EQ(refused({{"priority", 101}}), Code::kUsage);
  EXPECT_EQ(refused({{"attempts", 0}}), Code::kUsage);
  EXPECT_EQ(refused({{"seconds", -1}}), Code::kUsage);
  EXPECT_EQ(refused({{"agent", "web3"}}), Code::kUsage);
  EXPECT_EQ(refused({{"group", "db"}}), Code::kUsage);
  EXPECT_EQ(refused({{"agent", ""}}), Code::kUsage);
  EXPECT_EQ(refused({{"credential", "none"}}), Code::kUsage);
  EXPECT_EQ(refused({{"not_before", "tomorrow"}}), Code::kUsage);
  EXPECT_EQ(code_of([&] {
              tasks_.submit({{"handler", "deploy"}, {"agent", "web1"}, {"group", "web"}}, "ops");
            }),
            Code::kUsage);
  for (std::size_t i = 0; i < rules_.max_open; ++i) submit();
  EXPECT_EQ(refused(Json::object()), Code::kBusy);
  const Json taken = run();
  Json request = lease_of(taken);
  request["outcome"] = "done";
  request["result"] = std::string((64 << 10) + 1, 'x');
  EXPECT_EQ(code_of([&] { tasks_.end("web1", id_of(taken), request); }), Code::kUsage);
  request["result"] = std::string(64 << 10, 'x');
  EXPECT_EQ(tasks_.end("web1", id_of(taken), request).at("state"), "done");
  EXPECT_EQ(show(id_of(taken)).at("result"), request["result"]);
  submit();
}

TEST_F(TasksTest, OneKeyIsOneTaskAndNeverTwoThings) {
  const auto id = submit({{"key", "release-7"}});
  EXPECT_EQ(submit({{"key", "release-7"}}), id);
  EXPECT_EQ(code_of([&] { submit({{"key", "release-7"}, {"priority", 1}}); }), Code::kExists);
  EXPECT_EQ(code_of([&] { submit({{"key", "release-7"}, {"input", {{"n", 2}}}}); }), Code::kExists);
  end(run(), "done");
  EXPECT_EQ(submit({{"key", "release-7"}}), id);
  EXPECT_EQ(take().at("task"), nullptr);
}

TEST_F(TasksTest, EndedTasksAreForgottenAfterTheirTime) {
  const auto ended = submit(), open = submit();
  end(run(), "done");
  pass(59min);
  EXPECT_EQ(state(ended), "done");
  pass(2min);
  EXPECT_EQ(code_of([&] { show(ended); }), Code::kUsage);
  EXPECT_EQ(state(open), "queued");
}

TEST_F(TasksTest, ListsContinueAfterATaskAndCountWhatWaits) {
  const auto first = submit(), second = submit(), third = submit();
  end(run(), "failed");
  const Json all = tasks_.list({}, {});
  EXPECT_EQ(all.at("tasks").size(), 3u);
  EXPECT_EQ(all.at("waiting"), (Json{{"failed", 1}, {"queued", 2}}));
  const Json rest = tasks_.list({}, second);
  ASSERT_EQ(rest.at("tasks").size(), 1u);
  EXPECT_EQ(rest.at("tasks").at(0).at("id"), third);
  EXPECT_FALSE(rest.at("tasks").at(0).contains("input"));
  EXPECT_EQ(show(first).at("input"), (Json{{"n", 1}}));
  EXPECT_EQ(code_of([&] { tasks_.list({.state = "runs"}, {}); }), Code::kUsage);
}

}  // namespace
}  // namespace keyagent::instance
