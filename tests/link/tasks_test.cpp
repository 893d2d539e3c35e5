// SPDX-License-Identifier: Apache-2.0
// Tasks of the instance: taken, kept and ended for a worker, once, whatever dies in between.

#include "tests/link/link_fixture.h"

namespace keyagent::link {
namespace {

using test::Submission;
using testing::AllOf;
using testing::ElementsAre;
using testing::IsEmpty;

class TasksTest : public LinkTest {
 protected:
  static constexpr std::uint32_t kWorker = 1001, kOther = 1002;

  std::string submit(const Submission& wish = {}) {
    const std::string id = instance_.tasks.submit(wish);
    instance_.announce_tasks();
    return id;
  }
  wire::Response try_take(std::uint32_t uid = kWorker, const std::string& handler = "deploy") {
    wire::Request request;
    request.mutable_task_take()->set_handler(handler);
    return ask(uid, request);
  }
  // Polls as a worker does.
  wire::Task take() {
    wire::Task task;
    EXPECT_TRUE(eventually([&] {
      task = try_take().task_take().task();
      return !task.id().empty();
    }));
    return task;
  }
  wire::Response keep(const std::string& id, std::uint32_t uid = kWorker) {
    wire::Request request;
    request.mutable_task_keep()->set_handler("deploy");
    request.mutable_task_keep()->set_id(id);
    return ask(uid, request);
  }
  wire::Response end(const std::string& id, const std::string& outcome = "done",
                     std::uint32_t uid = kWorker) {
    wire::Request request;
    auto& said = *request.mutable_task_end();
    said.set_handler("deploy");
    said.set_id(id);
    said.set_outcome(outcome);
    said.set_text("as it was");
    said.set_result("42\n");
    return ask(uid, request);
  }
  wire::TaskListReply list() {
    wire::Request request;
    request.mutable_task_list();
    return ask(kAdmin, request).task_list();
  }
  bool becomes(const std::string& id, const std::string& state) {
    const bool reached = eventually([&] { return instance_.tasks.state(id) == state; });
    EXPECT_TRUE(reached) << state << " and not " << instance_.tasks.state(id);
    return reached;
  }
  // As kill -9: what is on the disk stays, what was in memory does not.
  void restart_agent() {
    link_->stop();
    open_link();
    link_->start();
    ASSERT_TRUE(reaches("connected"));
  }
};

TEST_F(TasksTest, R11_TaskIsTakenStartedAndEndedAndBothAreRecorded) {
  connect();
  const auto id = submit({"deploy", R"({"to":"web1","n":[1,2]})", "db-main", true, 5, 30});
  const auto task = take();
  EXPECT_EQ(task.id(), id);
  EXPECT_EQ(task.input(), R"({"n":[1,2],"to":"web1"})");
  EXPECT_EQ(task.credential(), "db-main");
  EXPECT_TRUE(task.repeatable());
  EXPECT_EQ(task.attempt(), 1u);
  EXPECT_EQ(task.seconds(), 30u);
  EXPECT_EQ(instance_.tasks.state(id), "started");
  EXPECT_EQ(status().tasks_running(), 1u);
  EXPECT_FALSE(end(id).has_failure());
  becomes(id, "done");
  EXPECT_EQ(instance_.tasks.text(id), "as it was");
  EXPECT_EQ(instance_.tasks.result(id), "42\n");
  EXPECT_THAT(audit_lines(), Contains(AllOf(HasSubstr("task.take"), HasSubstr(id),
                                            HasSubstr("uid 1001"), HasSubstr("deploy"))));
  EXPECT_THAT(audit_lines(), Contains(AllOf(HasSubstr("task.end"), HasSubstr(id))));
}

TEST_F(TasksTest, PollThatFindsNothingDoesNotAskTheInstanceAgainAndIsNotRecorded) {
  connect();
  ASSERT_TRUE(eventually([&] {
    const auto polled = try_take();
    EXPECT_FALSE(polled.has_failure()) << polled.failure().text();
    return instance_.tasks.asked() > 0;
  }));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(try_take().task_take().has_task());
  // The session's beginning is news too, and may come after the first poll.
  EXPECT_LE(instance_.tasks.asked(), 2);
  EXPECT_THAT(audit_lines(), Not(Contains(HasSubstr("task.take"))));
  const auto id = submit();
  EXPECT_EQ(take().id(), id);
}

TEST_F(TasksTest, LeaseIsCountedFromBeforeTheRequestAndKeepRenewsIt) {
  connect();
  const auto id = submit();
  std::uint32_t first = 0;
  ASSERT_TRUE(eventually([&] {
    const auto reply = try_take().task_take();
    first = reply.lease_ms();
    return reply.has_task();
  }));
  EXPECT_LT(first, 60000u);
  for (int i = 0; i < 3; ++i) {
    instance_.tasks.pass(40s);
    const auto kept = keep(id);
    ASSERT_FALSE(kept.has_failure()) << kept.failure().text();
    EXPECT_LT(kept.task_keep().lease_ms(), 60000u);
  }
  EXPECT_EQ(instance_.tasks.state(id), "started") << "after more than one lease";
}

TEST_F(TasksTest, KeepFailsAfterTheLeaseExpiredOrTheTaskWasCancelled) {
  connect();
  const auto id = submit();
  take();
  instance_.tasks.expire(id);
  EXPECT_EQ(keep(id).failure().code(), wire::KEY_STATE);
  const auto other = submit();
  take();
  EXPECT_FALSE(keep(other).has_failure());
  instance_.tasks.cancel(other);
  EXPECT_EQ(keep(other).failure().code(), wire::KEY_STATE);
  EXPECT_EQ(keep(std::string(32, 'a')).failure().code(), wire::KEY_STATE);
}

TEST_F(TasksTest, R5_OnlyWhoMayWorkTakesAndOnlyWhoTookItEnds) {
  connect();
  const auto id = submit();
  const auto refused = try_take(kAdmin);
  EXPECT_EQ(refused.failure().code(), wire::DENIED);
  EXPECT_THAT(refused.failure().text(), HasSubstr("keyagent why work deploy"));
  EXPECT_EQ(try_take(kWorker, "backup").failure().code(), wire::DENIED);
  take();
  EXPECT_EQ(keep(id, kOther).failure().code(), wire::DENIED);
  EXPECT_EQ(end(id, "done", kOther).failure().code(), wire::DENIED);
  EXPECT_EQ(end(id, "done", kAdmin).failure().code(), wire::DENIED);
  EXPECT_EQ(instance_.tasks.state(id), "started");
  EXPECT_FALSE(end(id).has_failure());
}

TEST_F(TasksTest, R11_OutcomesAreKeptWhileTheInstanceIsAwayAndComeInTheirOrder) {
  connect();
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    submit();
    ids.push_back(take().id());
  }
  instance_.go_away();
  ASSERT_TRUE(reaches("unreachable"));
  std::swap(ids[0], ids[3]);
  for (const auto& id : ids) ASSERT_FALSE(end(id).has_failure());
  EXPECT_EQ(status().outcomes_waiting(), 4u);
  EXPECT_FALSE(try_take().task_take().has_task());
  instance_.come_back();
  ASSERT_TRUE(eventually([&] { return instance_.tasks.ended().size() == 4; }));
  EXPECT_EQ(instance_.tasks.ended(), ids);
  EXPECT_TRUE(eventually([&] { return status().outcomes_waiting() == 0; }));
}

TEST_F(TasksTest, R11_EndIsAcceptedAfterTheAgentDiedInTheTask) {
  connect();
  const auto id = submit();
  take();
  restart_agent();
  EXPECT_FALSE(keep(id).has_failure()) << keep(id).failure().text();
  EXPECT_EQ(end(id, "done", kOther).failure().code(), wire::DENIED);
  EXPECT_FALSE(end(id).has_failure());
  becomes(id, "done");
}

TEST_F(TasksTest, R11_OutcomeThatWasNotDeliveredOutlivesTheAgent) {
  connect();
  const auto id = submit();
  take();
  instance_.tasks.deaf = true;
  EXPECT_FALSE(end(id).has_failure());
  restart_agent();
  EXPECT_EQ(status().outcomes_waiting(), 1u);
  instance_.tasks.deaf = false;
  becomes(id, "done");
}

TEST_F(TasksTest, R11_TaskThatComesAgainIsAnsweredFromTheJournalAndNotRun) {
  connect();
  const auto id = submit({"deploy", "{}", "", true});
  take();
  instance_.tasks.no_ends = true;
  EXPECT_FALSE(end(id).has_failure());
  instance_.tasks.expire(id);
  ASSERT_EQ(instance_.tasks.state(id), "queued");
  instance_.announce_tasks();
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(try_take().task_take().has_task());
    return instance_.tasks.state(id) == "leased";
  }));
  // With the new lease, because the old one is no longer valid.
  instance_.tasks.no_ends = false;
  becomes(id, "done");
  EXPECT_FALSE(told("task.refused"));
  EXPECT_EQ(instance_.tasks.starts(id), 1);
  EXPECT_EQ(instance_.tasks.result(id), "42\n");
}

TEST_F(TasksTest, R11_DoneThatTheInstanceHasForgottenIsSaidAgainAndNotRun) {
  connect();
  const auto id = submit();
  take();
  EXPECT_FALSE(end(id).has_failure());
  ASSERT_TRUE(becomes(id, "done"));
  ASSERT_TRUE(eventually([&] { return status().outcomes_waiting() == 0; }));
  // As after a backup of the instance was restored.
  instance_.tasks.retry(id);
  instance_.announce_tasks();
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(try_take().task_take().has_task());
    return instance_.tasks.state(id) == "done";
  }));
  EXPECT_EQ(instance_.tasks.starts(id), 1);
  EXPECT_TRUE(told("task.known", id)) << last_told();
}

TEST_F(TasksTest, AttemptThatFailedIsFollowedByAnother) {
  connect();
  const auto id = submit();
  take();
  EXPECT_FALSE(end(id, "retry").has_failure());
  ASSERT_TRUE(becomes(id, "queued"));
  instance_.announce_tasks();
  const auto again = take();
  EXPECT_EQ(again.id(), id);
  EXPECT_EQ(again.attempt(), 2u);
  EXPECT_FALSE(end(id).has_failure());
  becomes(id, "done");
}

TEST_F(TasksTest, R11_TaskWhoseStartTheAgentDidNotHearOfIsSaidNotToHaveStarted) {
  connect();
  instance_.tasks.lose_start = true;
  const auto id = submit();
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(try_take().task_take().has_task());
    return list().tasks_size() == 1;
  }));
  ASSERT_TRUE(eventually([&] { return instance_.tasks.ended().size() == 1; }));
  EXPECT_THAT(instance_.tasks.text(id), HasSubstr("not started"));
  EXPECT_EQ(instance_.tasks.state(id), "queued");
  instance_.tasks.lose_start = false;
  instance_.announce_tasks();
  EXPECT_EQ(take().id(), id);
}

TEST_F(TasksTest, OutcomeWhoseLeaseHasGoneIsDroppedWithAnAlarmAndHoldsUpNoOther) {
  connect();
  const auto lost = submit(), good = submit();
  take();
  take();
  instance_.tasks.cancel(lost);
  instance_.tasks.expire(lost);
  ASSERT_EQ(instance_.tasks.state(lost), "cancelled");
  EXPECT_FALSE(end(lost).has_failure());
  EXPECT_FALSE(end(good).has_failure());
  becomes(good, "done");
  EXPECT_TRUE(told("task.refused", lost)) << last_told();
  EXPECT_TRUE(eventually([this] { return status().outcomes_waiting() == 0u; }));
}

TEST_F(TasksTest, R11_OutcomeIsNotDroppedBecauseTheAgentIsSuspended) {
  connect();
  const auto id = submit();
  take();
  // The request comes before the link is ended.
  instance_.mischief.suspends = true;
  EXPECT_FALSE(end(id).has_failure());
  ASSERT_TRUE(eventually([&] { return instance_.requests("/v1/tasks/" + id + "/end") > 0; }));
  instance_.suspend("web1");
  ASSERT_TRUE(reaches("refused_by_peer"));
  instance_.suspend("web1", false);
  instance_.mischief.suspends = false;
  becomes(id, "done");
  EXPECT_FALSE(told("task.refused"));
}

TEST_F(TasksTest, SameEndSaidAgainChangesNothingAndAnotherIsRefused) {
  connect();
  const auto id = submit();
  take();
  EXPECT_FALSE(end(id).has_failure());
  EXPECT_FALSE(end(id).has_failure());
  ASSERT_TRUE(becomes(id, "done"));
  EXPECT_FALSE(end(id).has_failure());
  EXPECT_EQ(end(id, "failed").failure().code(), wire::KEY_STATE);
  EXPECT_EQ(end(id, "perhaps").failure().code(), wire::USAGE);
  EXPECT_THAT(instance_.tasks.ended(), ElementsAre(id));
  ASSERT_EQ(list().tasks_size(), 1);
  EXPECT_TRUE(eventually([this] { return list().tasks(0).stage() == "accepted"; }));
}

TEST_F(TasksTest, NothingIsTakenWhileTooManyOutcomesWait) {
  link_->stop();
  limits_.waiting = 1;
  open_link();
  connect();
  submit();
  const auto first = take().id();
  instance_.tasks.deaf = true;
  EXPECT_FALSE(end(first).has_failure());
  const auto second = submit();
  EXPECT_EQ(try_take().failure().code(), wire::BUSY);
  const auto findings = link_->diagnose();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].subject(), "tasks");
  instance_.tasks.deaf = false;
  EXPECT_EQ(take().id(), second);
}

TEST_F(TasksTest, LeavingForgetsTheTasks) {
  connect();
  const auto id = submit();
  take();
  wire::Request leave;
  leave.mutable_leave();
  ASSERT_FALSE(ask(kAdmin, leave).has_failure());
  EXPECT_EQ(list().tasks_size(), 0);
  EXPECT_EQ(end(id).failure().code(), wire::KEY_STATE);
  EXPECT_EQ(try_take().failure().code(), wire::KEY_STATE);
}

TEST_F(TasksTest, Fault161_TheCredentialOfATaskIsForItsUserAndAttemptAlone) {
  instance_.put_credential("db-main", "s3cret");
  instance_.put_credential("other", "s3cret");
  connect();
  submit({"deploy", "{}", "db-main"});
  wire::TaskTakeReply taken;
  EXPECT_TRUE(eventually([&] {
    taken = try_take().task_take();
    return taken.has_task();
  }));
  wire::Request request;
  auto& wanted = *request.mutable_task_credential();
  wanted.set_handler("deploy");
  wanted.set_id(taken.task().id());
  EXPECT_EQ(ask(kWorker, request).failure().code(), wire::KEY_STATE);  // without its grant
  wanted.set_grant(taken.grant());
  EXPECT_EQ(ask(kOther, request).failure().code(), wire::DENIED);
  EXPECT_EQ(ask(kWorker, request).task_credential().value(), "s3cret");
  // The worker's uid may have it by its own rule; not while a handler runs as it.
  EXPECT_EQ(get(kWorker, "db-main").failure().code(), wire::DENIED);
  end(taken.task().id());
  EXPECT_EQ(ask(kWorker, request).failure().code(), wire::KEY_STATE);
  EXPECT_FALSE(get(kWorker, "db-main").has_failure());
}

}  // namespace
}  // namespace keyagent::link
