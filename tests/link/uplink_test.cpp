// SPDX-License-Identifier: Apache-2.0
// "Connected", and what is said instead.

#include "tests/link/link_fixture.h"

namespace keyagent::link {
namespace {

// Every state that is seen until `ready`.
std::set<std::string> states_until(const std::function<std::string()>& look,
                                   const std::function<bool()>& ready) {
  std::set<std::string> seen;
  EXPECT_TRUE(eventually([&] {
    seen.insert(look());
    return ready();
  }));
  return seen;
}

TEST_F(LinkTest, T6_ServerThatRefusesTheClientUnderTls13IsNeverConnected) {
  instance_.distrust_agents();
  ASSERT_FALSE(enroll(instance_.make_token()).has_failure());
  const auto seen =
      states_until([this] { return status().state(); }, [this] { return status().failures() > 3; });
  EXPECT_THAT(seen, Not(Contains("connected")));
  EXPECT_EQ(status().state(), "refused_by_peer");
  EXPECT_EQ(status().code(), "REFUSED_BY_PEER");
}

TEST_F(LinkTest, T6_WelcomeThatNamesAnotherKeyIsRefused) {
  instance_.mischief.other_welcome = true;
  ASSERT_FALSE(enroll(instance_.make_token()).has_failure());
  const auto seen =
      states_until([this] { return status().state(); }, [this] { return status().failures() > 2; });
  EXPECT_THAT(seen, Not(Contains("connected")));
  EXPECT_EQ(status().state(), "refused_by_peer");
  EXPECT_EQ(status().code(), "INTEGRITY");
}

TEST_F(LinkTest, T6_LinkThatEndsBeforeItsWelcomeIsARefusal) {
  instance_.mischief.no_welcome = true;
  ASSERT_FALSE(enroll(instance_.make_token()).has_failure());
  ASSERT_TRUE(reaches("refused_by_peer"));
  EXPECT_THAT(status().text(), HasSubstr("go away"));
}

TEST_F(LinkTest, InstanceThatIsAwayIsUnreachableAndIsFoundAgain) {
  connect();
  instance_.go_away();
  ASSERT_TRUE(reaches("unreachable"));
  EXPECT_EQ(status().code(), "PEER");
  EXPECT_TRUE(status().peer().empty());
  instance_.come_back();
  EXPECT_TRUE(reaches("connected"));
  EXPECT_TRUE(status().code().empty());
}

TEST_F(LinkTest, SuspendedAgentIsRefusedWithTheInstancesReason) {
  connect();
  instance_.suspend("web1");
  ASSERT_TRUE(reaches("refused_by_peer"));
  EXPECT_EQ(status().code(), "KEY_STATE");
  instance_.suspend("web1", false);
  EXPECT_TRUE(reaches("connected"));
}

TEST_F(LinkTest, InstanceThatAcknowledgesNoHeartbeatIsGone) {
  instance_.mischief.deaf = true;
  connect();
  ASSERT_TRUE(eventually([this] { return told("link.down", "acknowledges no heartbeats"); }));
}

TEST_F(LinkTest, R14_StateFolderThatMovedIsStillTrusted) {
  connect();
  const std::string kid = status().auth_kid();
  link_->stop();
  open_link();
  link_->start();
  ASSERT_TRUE(reaches("connected"));
  EXPECT_EQ(status().auth_kid(), kid);
}

TEST_F(LinkTest, R15_EnrollmentOfAnotherKeyIsReportedAndNotUsed) {
  connect();
  link_->stop();
  keys_.destroy("identity", {"test"});
  create("identity", "auth");
  open_link();
  link_->start();
  ASSERT_TRUE(reaches("unreachable"));
  EXPECT_EQ(status().code(), "KEY_NOT_PRESENT");
  EXPECT_THAT(status().text(), HasSubstr("--replace"));
  const auto findings = link_->diagnose();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].code(), "KEY_NOT_PRESENT");
}

TEST_F(LinkTest, AgentThatIsNotEnrolledHasNoThreadAndReportsItsState) {
  const auto threads = [] {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const auto before = threads();
  link_->start();
  EXPECT_EQ(threads(), before);
  EXPECT_EQ(status().state(), "not_enrolled");
  EXPECT_EQ(get(kDatabase, "db-main").failure().code(), wire::KEY_STATE);
}

}  // namespace
}  // namespace keyagent::link
