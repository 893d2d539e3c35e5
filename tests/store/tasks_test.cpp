// SPDX-License-Identifier: Apache-2.0
#include "agent/store/tasks.h"

#include <gtest/gtest.h>

#include "agent/store/engine/database.h"
#include "agent/store/events.h"
#include "tests/store/both.h"
#include "tests/store/plan.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

class TasksStore : public BothTest {
 protected:
  void add(const Task& task) { ASSERT_TRUE(store().tasks().add(task, 1000, sample_event())); }
  // Adds it, takes it and starts it.
  Task running(const std::string& id, const std::string& agent = "host-1") {
    add(sample_task(id, "agent:" + agent));
    return take_and_start(store(), sample_claim(agent)).value();
  }
  std::vector<std::string> ids(const TaskFilter& filter) {
    std::vector<std::string> found;
    for (const auto& task : store().tasks().list(filter)) found.push_back(task.id);
    return found;
  }
  std::string next(TaskClaim claim) {
    const auto task = take_and_start(store(), claim);
    return task ? task->id : "none";
  }
};
KEYAGENT_ON_BOTH(TasksStore);

// PostgreSQL plans by what is in the table, SQLite by what the statement says.
class TasksOnSqlite : public TasksStore {};
INSTANTIATE_TEST_SUITE_P(On, TasksOnSqlite, ::testing::Values("sqlite"), engine_name);

TEST_P(TasksStore, TaskIsReadBackInEveryField) {
  auto task = sample_task("1");
  task.key = task.handler = task.credential = task.submitted_by = kAwkward;
  task.target = "group:" + kAwkward;
  task.input = std::string(64 << 10, 'x');
  task.priority = -100;
  task.agent = kAwkward;
  task.attempt = 2;
  task.lease = random_bytes(32);
  task.lease_until = kNow + 1ms;
  task.lease_life = 60s;
  task.cancelling = true;
  task.said = random_bytes(32);
  task.text = task.result = kAwkward;
  task.revision = 7;
  task.number = 99;
  const auto added = store().tasks().add(task, 1000, sample_event("task.submit")).value();
  task.number = 1;
  expect_equal(added, task);
  expect_equal(store().tasks().find("1").value(), task);
  task.input.clear();
  task.result.clear();
  expect_equal(store().tasks().list({}).at(0), task);
  EXPECT_FALSE(store().tasks().find("2"));
  EXPECT_EQ(store().events().list(0, 10).at(0).action, "task.submit");
}

TEST_P(TasksStore, OneKeyOfOneSubmitterIsOneTask) {
  auto task = sample_task("1");
  task.key = kAwkward;
  add(task);
  auto again = sample_task("2");
  again.key = kAwkward;
  EXPECT_EQ(store().tasks().add(again, 1000, sample_event())->id, "1");
  again.submitted_by = "bob";
  EXPECT_EQ(store().tasks().add(again, 1000, sample_event())->id, "2");
  add(sample_task("3"));  // an empty key never matches another
  add(sample_task("4"));
  EXPECT_EQ(ids({}), (std::vector<std::string>{"1", "2", "3", "4"}));
  EXPECT_EQ(store().events().list(0, 10).size(), 4u);
}

TEST_P(TasksStore, MoreThanAllowedAreNotAddedUntilOneHasEnded) {
  for (const char* id : {"1", "2"})
    EXPECT_TRUE(store().tasks().add(sample_task(id), 2, sample_event()));
  EXPECT_FALSE(store().tasks().add(sample_task("3"), 2, sample_event()));
  EXPECT_FALSE(store().tasks().find("3"));
  auto ended = store().tasks().find("1").value();
  ended.state = "unknown";
  EXPECT_TRUE(store().tasks().move(ended));
  EXPECT_TRUE(store().tasks().add(sample_task("3"), 2, sample_event()));
  EXPECT_EQ(store().events().list(0, 10).size(), 3u);
}

TEST_P(TasksStore, ListsAreFilteredAndContinueAfterANumber) {
  for (int i = 1; i <= 4; ++i) {
    auto task = sample_task(std::to_string(i), i == 1 ? "agent:host-2" : "group:web");
    if (i == 4) task.handler = "restart";
    add(task);
  }
  auto claim = sample_claim("host-1");
  claim.targets = {"group:web"};
  EXPECT_EQ(next(claim), "2");
  using Ids = std::vector<std::string>;
  EXPECT_EQ(ids({.state = "started"}), Ids{"2"});
  EXPECT_EQ(ids({.agent = "host-1"}), Ids{"2"});
  EXPECT_EQ(ids({.agent = "host-2"}), Ids{"1"});
  EXPECT_EQ(ids({.handler = "restart"}), Ids{"4"});
  EXPECT_EQ(ids({.state = "queued", .handler = "deploy"}), (Ids{"1", "3"}));
  EXPECT_EQ(ids({.after = 2, .count = 1}), Ids{"3"});
  EXPECT_EQ(store().tasks().count_by_state(),
            (std::vector<std::pair<std::string, std::int64_t>>{{"queued", 3}, {"started", 1}}));
}

TEST_P(TasksStore, TakenIsTheHighestPriorityThenTheFirstSubmitted) {
  for (const auto& [id, priority] :
       {std::pair{"low", -5}, {"first", 0}, {"second", 0}, {"high", 100}, {"web", 0}}) {
    auto task = sample_task(id, std::string(id) == "web" ? "group:web" : "agent:host-1");
    task.priority = priority;
    add(task);
  }
  auto other = sample_task("other");
  other.handler = "restart";
  add(other);
  auto claim = sample_claim();
  claim.targets.push_back("group:web");
  for (const char* expected : {"high", "first", "second", "web", "low", "none"})
    EXPECT_EQ(next(claim), expected);
  claim.handlers.push_back("restart");
  EXPECT_EQ(next(sample_claim("host-2")), "none");
  EXPECT_EQ(next(claim), "other");
}

TEST_P(TasksStore, TakenTaskHasItsLeaseAndItsAttemptCounted) {
  auto task = sample_task("1");
  task.said = {1};
  add(task);
  const auto claim = sample_claim();
  const auto taken = store().tasks().claim(claim).value();
  EXPECT_EQ(taken.state, "leased");
  EXPECT_EQ(taken.agent, "host-1");
  EXPECT_EQ(taken.attempt, 1);
  EXPECT_EQ(taken.lease, claim.lease);
  EXPECT_EQ(taken.lease_until, kNow + 60s);
  EXPECT_TRUE(taken.said.empty());
  expect_equal(store().tasks().find("1").value(), taken);
}

TEST_P(TasksStore, R11_ATaskThatItsTakerDidNotStartComesAgainFirstUnderTheNextLease) {
  add(sample_task("1"));
  auto urgent = sample_task("2");
  auto claim = sample_claim();
  const auto lost = store().tasks().claim(claim).value();
  urgent.priority = 100;
  add(urgent);
  claim.lease = {7};
  claim.now += 1s;
  const auto again = store().tasks().claim(claim).value();
  EXPECT_EQ(again.id, "1");
  EXPECT_EQ(again.attempt, 1);
  EXPECT_EQ(again.lease, claim.lease);
  EXPECT_EQ(again.lease_until, lost.lease_until + 1s);
  expect_equal(store().tasks().find("1").value(), again);
  EXPECT_FALSE(store().tasks().claim(sample_claim("host-2"))) << "it is its taker's alone";
  auto other = sample_claim();
  other.handlers = {"restart"};
  EXPECT_FALSE(store().tasks().claim(other));
  store().tasks().pause({"handler:deploy", "ada", kNow}, sample_event());
  EXPECT_FALSE(store().tasks().claim(claim));
  store().tasks().resume("handler:deploy", sample_event());
  EXPECT_EQ(take_and_start(store(), claim)->id, "1");
  EXPECT_EQ(next(claim), "2");
}

TEST_P(TasksStore, NothingIsTakenBeforeItsTime) {
  auto later = sample_task("later");
  later.not_before = kNow + 1ms;
  later.priority = 100;
  add(later);
  add(sample_task("now"));
  auto claim = sample_claim();
  EXPECT_EQ(next(claim), "now");
  EXPECT_EQ(next(claim), "none");
  claim.now = kNow + 1ms;
  EXPECT_EQ(next(claim), "later");
}

TEST_P(TasksStore, NothingIsTakenOfWhatIsPausedAndWhatRunsIsCounted) {
  running("1");
  add(sample_task("2"));
  for (const char* what : {"all", "agent:host-1", "handler:deploy"}) {
    EXPECT_TRUE(store().tasks().pause({what, "ada", kNow}, sample_event("pause")));
    EXPECT_FALSE(store().tasks().pause({what, "bob", kNow}, sample_event("pause")));
    EXPECT_EQ(next(sample_claim()), "none") << what;
    EXPECT_EQ(store().tasks().pauses().at(0).what, what);
    EXPECT_EQ(store().tasks().pauses().at(0).paused_by, "ada");
    EXPECT_EQ(store().tasks().count_running(what), 1);
    EXPECT_TRUE(store().tasks().resume(what, sample_event("resume")));
    EXPECT_FALSE(store().tasks().resume(what, sample_event("resume")));
  }
  EXPECT_EQ(store().tasks().count_running("agent:host-2"), 0);
  EXPECT_EQ(store().tasks().count_running("handler:restart"), 0);
  store().tasks().pause({"agent:host-2", "ada", kNow}, sample_event());
  store().tasks().pause({"handler:restart", "ada", kNow}, sample_event());
  EXPECT_EQ(next(sample_claim()), "2");
  EXPECT_EQ(store().tasks().pauses().size(), 2u);
}

TEST_P(TasksStore, TaskIsMovedOnlyFromTheRevisionItHas) {
  auto task = running("1");
  auto moved = task;
  moved.state = "done";
  moved.said = {1, 2};
  moved.text = kAwkward + '\0';
  moved.result = kAwkward;
  moved.cancelling = true;
  moved.changed = kNow + 1s;
  moved.handler = moved.input = "another";
  EXPECT_TRUE(store().tasks().move(moved, sample_event("end")));
  EXPECT_FALSE(store().tasks().move(moved, sample_event("end")));
  EXPECT_FALSE(store().tasks().move(task));
  const auto read = store().tasks().find("1").value();
  EXPECT_EQ(read.state, "done");
  EXPECT_EQ(read.said, moved.said);
  EXPECT_NE(read.text.find("\\u0000"), std::string::npos) << read.text;
  EXPECT_EQ(read.result, kAwkward);
  EXPECT_EQ(read.handler, "deploy");
  EXPECT_EQ(read.input, task.input);
  EXPECT_EQ(store().events().list(1, 10).size(), 1u);
}

TEST_P(TasksStore, LapsedAreThoseWhoseLeaseIsOver) {
  running("1");
  auto started = running("2");
  started.state = "started";
  started.lease_until = kNow + 61s;
  store().tasks().move(started);
  auto done = running("3");
  done.state = "done";
  store().tasks().move(done);
  add(sample_task("4"));
  EXPECT_TRUE(store().tasks().lapsed(kNow + 59s, 10).empty());
  EXPECT_EQ(store().tasks().lapsed(kNow + 60s, 10).size(), 1u);
  const auto both = store().tasks().lapsed(kNow + 61s, 10);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].id, "1");
  EXPECT_EQ(store().tasks().lapsed(kNow + 61s, 1).size(), 1u);
}

TEST_P(TasksStore, SettledLeasesLastNoLongerThanTheyWereGivenFor) {
  running("1");
  auto waiting = sample_task("2");
  waiting.attempt = 1;
  waiting.not_before = kNow + 100s;
  add(waiting);
  auto planned = sample_task("3");
  planned.not_before = kNow + 100s;
  add(planned);
  EXPECT_EQ(store().tasks().settle_leases(kNow + 1s, kNow + 90s), 60s);
  EXPECT_EQ(store().tasks().find("1")->lease_until,
            kNow + 60s);  // not longer than it was
  EXPECT_EQ(store().tasks().settle_leases(kNow - 1h, kNow + 90s), 60s);
  EXPECT_EQ(store().tasks().find("1")->lease_until, kNow - 1h + 60s);
  EXPECT_EQ(store().tasks().find("2")->not_before, kNow + 90s);
  EXPECT_EQ(store().tasks().find("3")->not_before,
            kNow + 100s);  // as its submitter said
}

TEST_P(TasksStore, WaitingTargetsAreNamedOnceInTheirTime) {
  for (int i = 0; i < 3; ++i) add(sample_task(std::to_string(i), "group:web"));
  auto later = sample_task("later");
  later.not_before = kNow + 5s;
  add(later);
  using Names = std::vector<std::string>;
  EXPECT_EQ(store().tasks().waiting_targets(kNow - 1ms, kNow), Names{"group:web"});
  EXPECT_EQ(store().tasks().waiting_targets(kNow, kNow + 5s), Names{"agent:host-1"});
  EXPECT_EQ(store().tasks().waiting_targets(at(0), kNow + 5s).size(), 2u);
  EXPECT_TRUE(store().tasks().any_waiting({"agent:host-1", "group:web"}, kNow));
  EXPECT_FALSE(store().tasks().any_waiting({"agent:host-1", "group:db"}, kNow));
  EXPECT_TRUE(store().tasks().any_waiting({"agent:host-1"}, kNow + 5s));
}

TEST_P(TasksStore, OnlyWhatHasEndedIsForgotten) {
  const std::vector<std::string> states{"queued", "leased",  "started",  "done",
                                        "failed", "unknown", "cancelled"};
  for (const auto& state : states) {
    for (const auto changed : {kNow, kNow - 1ms}) {
      auto task = sample_task(state + (changed == kNow ? "" : "-old"));
      task.state = state;
      task.changed = changed;
      add(task);
    }
  }
  store().tasks().forget(kNow);
  for (const auto& state : states) {
    EXPECT_TRUE(store().tasks().find(state)) << state;
    EXPECT_EQ(store().tasks().find(state + "-old").has_value(),
              state == "queued" || state == "leased" || state == "started")
        << state;
  }
}

// A queue of a hundred thousand must not be read through for each that asks.
TEST_P(TasksOnSqlite, TheNextTaskAndTheLapsedAreFoundByAnIndex) {
  Database database(Options{url_});
  const auto plan = [&](const std::string& where) {
    std::string text;
    database.read([&](Sql& sql) {
      for (const auto& each : plan_of(sql, "SELECT id FROM tasks WHERE " + where))
        text += each + "\n";
    });
    return text;
  };
  const auto next = plan(
      "state = 'queued' AND target = 'a' AND handler = 'b' AND not_before <= 5 "
      "ORDER BY priority DESC, number LIMIT 1");
  EXPECT_NE(next.find("tasks_next"), std::string::npos) << next;
  EXPECT_EQ(next.find("TEMP B-TREE"), std::string::npos) << next;
  const auto lapsed = plan("state IN ('leased', 'started') AND lease_until <= 5");
  EXPECT_NE(lapsed.find("tasks_lease (state=? AND lease_until<?)"), std::string::npos) << lapsed;
}

}  // namespace
}  // namespace keyagent::store
