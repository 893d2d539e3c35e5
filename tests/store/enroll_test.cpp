// SPDX-License-Identifier: Apache-2.0
// Enrollment's last step: whatever has changed since it began is seen in the transaction that acts.

#include <gtest/gtest.h>

#include "agent/store/agent_sessions.h"
#include "agent/store/agents.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/credentials.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "agent/store/rekeys.h"
#include "agent/store/restoration.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/users.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using enum EnrollOutcome;
using namespace std::chrono_literals;

class Enroll : public BothTest {
 protected:
  Bytes token(const std::string& agent = {}, bool inherit = false,
              std::vector<std::string> groups = {}) {
    EnrollmentToken made;
    made.hash = random_bytes(32);
    made.agent_id = agent;
    made.groups = std::move(groups);
    made.created_by = "ada";
    made.expires = kNow + 1h;
    made.inherit = inherit;
    store().enrollments().add_token(made);
    return made.hash;
  }
  Enrollment asked(const std::string& key, const Bytes& token = {}) {
    return sample_enrollment(store(), "web1", key, token);
  }
  EnrollOutcome enroll(const Enrollment& e) {
    return store()
        .enrollments()
        .enroll(e, [](const auto&) { return sample_event("enrol"); })
        .outcome;
  }
  EnrollOutcome ask(const Enrollment& e, const PendingLimits& limits = {}) {
    return store()
        .enrollments()
        .ask_approval(e, limits, [](const auto&) { return sample_event("ask"); })
        .outcome;
  }
  EnrollOutcome approve(const std::string& kid, WallTime now = kNow) {
    return store()
        .enrollments()
        .approve("web1", kid, "user ada", now, [](const auto&) { return sample_event("approve"); })
        .outcome;
  }
  // web1 with the keys `key`, trusted, in a group, with a credential, a certificate and an order.
  void trust(const std::string& key) {
    ASSERT_EQ(enroll(asked(key, token({}, false, {"prod"}))), kEntered);
    Credential credential = sample_credential("db");
    credential.agents = {"web1", "web2"};
    store().credentials().put(credential, nullptr);
    store().sealed_copies().put({"db", 1, "web1", "transport-" + key, {1}});
    store().certificates().add(
        {"01", "web1", "auth-" + key, kNow, kNow + 24h, std::nullopt, "", {1}});
    store().rekeys().add(sample_rekey("web1"));
  }
  // Everything is as trust() left it.
  void expect_untouched(const std::string& key) {
    const auto agent = store().agents().find("web1").value();
    EXPECT_EQ(agent.auth_kid, "auth-" + key);
    EXPECT_EQ(agent.state, "trusted");
    EXPECT_EQ(agent.groups, std::vector<std::string>{"prod"});
    EXPECT_FALSE(store().certificates().list("web1").at(0).revoked);
    EXPECT_TRUE(store().sealed_copies().find("db", "web1", "transport-" + key));
    EXPECT_EQ(store().rekeys().list("web1", true).size(), 1u);
  }
  bool is_unused(const Bytes& token) {
    return store().enrollments().find_token(token, "web1", kNow).has_value();
  }
};
KEYAGENT_ON_BOTH(Enroll);

TEST_P(Enroll, Fault146_AnIdThatWasTakenMeanwhileIsNotTakenOverWithAGenericToken) {
  if (IsSkipped()) return;
  const auto generic = token();
  const auto early = asked("thief", generic);
  ASSERT_EQ(store().enrollments().preview(early).outcome, kEntered) << "it was free when it began";
  trust("owner");
  EXPECT_EQ(enroll(early), kOtherKey);
  expect_untouched("owner");
  EXPECT_TRUE(is_unused(generic));
  auto replacing = early;
  replacing.replace = true;
  EXPECT_EQ(enroll(replacing), kTokenRefused) << "--replace needs a token made for this id";
  expect_untouched("owner");
}

TEST_P(Enroll, Fault168_OnlyATokenMadeForTheIdLetsACopyContinue) {
  if (IsSkipped()) return;
  trust("owner");
  const auto enrolled = store().agents().find("web1")->enrolled;
  ASSERT_TRUE(store().agent_sessions().advance("web1", enrolled, "", "first"));
  ASSERT_TRUE(store().agent_sessions().advance("web1", enrolled, "first", "second"));
  EXPECT_EQ(enroll(asked("owner", token())), kKnown);
  EXPECT_FALSE(store().agent_sessions().advance("web1", enrolled, "first", "copy"));
  EXPECT_EQ(enroll(asked("owner", token("web1"))), kKnown);
  EXPECT_TRUE(store().agent_sessions().advance("web1", enrolled, "first", "copy"));
}

TEST_P(Enroll, Fault146_AReplacementInheritsNothingUnlessItsTokenAllowsIt) {
  if (IsSkipped()) return;
  trust("owner");
  auto fresh = asked("fresh", token("web1"));
  EXPECT_EQ(enroll(fresh), kOtherKey) << "it did not ask to replace";
  fresh.replace = true;
  const auto found =
      store().enrollments().enroll(fresh, [](const auto&) { return sample_event(); });
  EXPECT_EQ(found.outcome, kReplaced);
  EXPECT_EQ(found.before->auth_kid, "auth-owner");
  EXPECT_EQ(found.unassigned, std::vector<std::string>{"db"});
  const auto agent = store().agents().find("web1").value();
  EXPECT_EQ(agent.auth_kid, "auth-fresh");
  EXPECT_TRUE(agent.groups.empty());
  EXPECT_EQ(store().credentials().find("db")->agents, std::vector<std::string>{"web2"});
  EXPECT_TRUE(store().certificates().list("web1").at(0).revoked);
  EXPECT_TRUE(store().sealed_copies().census("web1").empty());
  EXPECT_TRUE(store().rekeys().list("web1", true).empty());
}

TEST_P(Enroll, Fault146_ATokenMayLetAReplacementInherit) {
  if (IsSkipped()) return;
  trust("owner");
  auto fresh = asked("fresh", token("web1", true));
  fresh.replace = true;
  EXPECT_EQ(enroll(fresh), kReplaced);
  EXPECT_EQ(store().agents().find("web1")->groups, std::vector<std::string>{"prod"});
  EXPECT_EQ(store().credentials().find("db")->agents, (std::vector<std::string>{"web1", "web2"}));
  EXPECT_TRUE(store().sealed_copies().census("web1").empty())
      << "nothing that was sealed to the old key";
}

// The keys of an agent that runs twice do not come back with a token: that is a person's decision.
TEST_P(Enroll, Fault168_ASuspendedAgentIsNotEnrolledAndItsTokenStaysUnused) {
  if (IsSkipped()) return;
  trust("owner");
  const auto for_it = token("web1");
  const auto early = asked("owner", for_it);
  ASSERT_EQ(store().enrollments().preview(early).outcome, kKnown);
  auto agent = store().agents().find("web1").value();
  agent.state = "suspended";
  ASSERT_TRUE(store().agents().update(agent));
  EXPECT_EQ(enroll(early), kSuspended);
  EXPECT_EQ(ask(asked("owner")), kSuspended);
  EXPECT_TRUE(is_unused(for_it));
  EXPECT_EQ(store().agents().find("web1")->state, "suspended");
  agent = store().agents().find("web1").value();
  agent.state = "trusted";
  ASSERT_TRUE(store().agents().update(agent));
  EXPECT_EQ(enroll(early), kKnown);
}

// Each row takes one precondition away between the two steps.
TEST_P(Enroll, Fault147_EnrollmentChecksAgainWhateverItDependsOn) {
  if (IsSkipped()) return;
  store().users().add({"ada", "admin", "", ""});
  struct Case {
    const char* name;
    std::function<void(Enrollment&)> withdraw;
    EnrollOutcome expected;
  };
  const std::vector<Case> cases{
      {"nothing", [](Enrollment&) {}, kEntered},
      {"token used", [&](Enrollment& e) { use_token(store(), e.token, "other", kNow); },
       kTokenRefused},
      {"token expired", [](Enrollment& e) { e.now += 2h; }, kTokenRefused},
      {"token's maker disabled",
       [&](Enrollment&) {
         store().users().update(*store().users().find("ada"), {"ada", "admin", "", "", true},
                                sample_event());
       },
       kTokenRefused},
      {"challenge failed",
       [&](Enrollment& e) {
         store().challenges().move({e.challenge, "", "", "failed", "", kNow + 1h, {}}, "asked");
       },
       kGone},
      {"challenge expired",
       [&](Enrollment& e) {
         store().challenges().move({e.challenge, "", "", "asked", "", kNow, {}}, "asked");
       },
       kGone},
      {"id reserved by a token", [&](Enrollment& e) { token(e.agent.id); }, kReserved},
      {"id taken", [&](Enrollment& e) { use_token(store(), token(), e.agent.id, kNow); },
       kOtherKey},
      {"key taken",
       [&](Enrollment& e) {
         auto agent = sample_agent("elsewhere-" + e.agent.id);
         agent.auth_kid = e.agent.auth_kid;
         store().agents().add(agent);
       },
       kKeyInUse},
      {"store restored from a backup",
       [&](Enrollment&) {
         store().restoration().note({1'000'000, "web9", kNow}, sample_event());
       },
       kRestored}};
  int number = 0;
  for (const auto& [name, withdraw, expected] : cases) {
    SCOPED_TRACE(name);
    const auto id = "host-" + std::to_string(++number);
    store().users().update(*store().users().find("ada"), {"ada", "admin", "", ""}, sample_event());
    const auto once = token();
    auto e = sample_enrollment(store(), id, id, once);
    ASSERT_EQ(store().enrollments().preview(e).outcome, kEntered);
    withdraw(e);
    EXPECT_EQ(enroll(e), expected);
    const auto agent = store().agents().find(id);
    EXPECT_EQ(agent && agent->auth_kid == e.agent.auth_kid, expected == kEntered);
  }
}

TEST_P(Enroll, Fault147_AnApprovalChecksAgainTheIdTheKeyAndThePendingRequest) {
  if (IsSkipped()) return;
  ASSERT_EQ(ask(asked("a")), kPending);
  EXPECT_EQ(approve("auth-b"), kNotPending);
  EXPECT_EQ(approve("auth-a", kNow + 25h), kNotPending) << "expired";
  store().enrollments().reject("web1", "auth-a", "no", sample_event());
  EXPECT_EQ(approve("auth-a"), kNotPending) << "rejected by another user";
  ASSERT_EQ(ask(asked("a")), kPending) << "it may ask again";
  auto holder = sample_agent("holder");
  holder.auth_kid = "auth-a";
  store().agents().add(holder);
  EXPECT_EQ(approve("auth-a"), kKeyInUse);
  ASSERT_EQ(ask(asked("c")), kPending);
  ASSERT_EQ(enroll(asked("owner", token("web1"))), kEntered);
  EXPECT_EQ(approve("auth-c"), kNotPending) << "the token's bearer has the id";
  EXPECT_EQ(store().agents().find("web1")->auth_kid, "auth-owner");
}

TEST_P(Enroll, Fault152_PendingAgentsOfOneIdAreKeptApartAndBounded) {
  if (IsSkipped()) return;
  const PendingLimits limits{.per_address = 3, .total = 5};
  for (const char* key : {"s1", "s2", "s3"}) EXPECT_EQ(ask(asked(key), limits), kPending);
  EXPECT_EQ(ask(asked("s4"), limits), kFull);
  EXPECT_EQ(ask(asked("s1"), limits), kPending) << "asked again: the same row";
  auto other = asked("s1");
  other.agent.transport_kid = "another";
  EXPECT_EQ(ask(other, limits), kOtherTransport) << "the keys that a user reviews do not change";
  auto owner = asked("owner");
  owner.address = "198.51.100.7";
  EXPECT_EQ(ask(owner, limits), kPending) << "strangers do not squat the id";
  EXPECT_EQ(store().enrollments().pending("web1", kNow).size(), 4u);
  EXPECT_EQ(approve("auth-owner"), kEntered);
  EXPECT_EQ(store().agents().find("web1")->auth_kid, "auth-owner");
  EXPECT_TRUE(store().enrollments().pending("web1", kNow).empty());
  for (int i = 0; i < 9; ++i) {
    auto each = sample_enrollment(store(), "x" + std::to_string(i), "x" + std::to_string(i));
    each.address = "203.0.113." + std::to_string(i);
    ask(each, limits);
  }
  EXPECT_EQ(store().enrollments().pending({}, kNow).size(), 5u);
  store().forget_expired(kNow + 25h);
  EXPECT_TRUE(store().enrollments().pending({}, kNow).empty());
}

TEST_P(Enroll, Fault152_ATokenMadeForAnIdWinsOverStrangersWhoWaitForIt) {
  if (IsSkipped()) return;
  ASSERT_EQ(ask(asked("stranger")), kPending);
  const auto named = token("web1");
  EXPECT_EQ(enroll(asked("visitor", token())), kReserved) << "another token does not take it";
  EXPECT_EQ(enroll(asked("owner", named)), kEntered);
  EXPECT_EQ(approve("auth-stranger"), kNotPending);
  EXPECT_EQ(store().agents().find("web1")->auth_kid, "auth-owner");
}

TEST_P(Enroll, Fault147_ACertificateIsIssuedOnceWithinTheBudgetAndToATrustedKeyOnly) {
  if (IsSkipped()) return;
  trust("owner");  // it has one
  const auto issue = [&](const std::string& serial, const std::string& kid, std::int64_t budget,
                         const Challenge* challenge = nullptr) {
    return store().certificates().issue(
        {serial, "web1", kid, kNow, kNow + 24h, std::nullopt, "", {1}}, {.count = budget},
        kNow + 1s, challenge, "proved");
  };
  EXPECT_EQ(issue("02", "auth-thief", 9), IssueOutcome::kNotTrusted);
  Challenge challenge{"c1", "enrolment", "web1", "proved", "{}", kNow + 1h, {}};
  store().challenges().add(challenge, kNow);
  challenge.state = "certified";
  EXPECT_EQ(issue("02", "auth-owner", 9, &challenge), IssueOutcome::kIssued);
  EXPECT_EQ(issue("03", "auth-owner", 9, &challenge), IssueOutcome::kGone);
  EXPECT_EQ(issue("03", "auth-owner", 2), IssueOutcome::kOverBudget);
  auto agent = store().agents().find("web1").value();
  agent.state = "suspended";
  store().agents().update(agent);
  EXPECT_EQ(issue("03", "auth-owner", 9), IssueOutcome::kNotTrusted);
  EXPECT_EQ(store().certificates().list("web1").size(), 2u);
}

TEST_P(Enroll, Fault147_ABackupIsAcceptedAsItWasSeen) {
  if (IsSkipped()) return;
  store().restoration().note({100, "web1", kNow}, sample_event());
  store().restoration().note({500, "web2", kNow}, sample_event());
  EXPECT_FALSE(store().restoration().accept(sample_event(), 100)) << "more was learned since";
  EXPECT_TRUE(store().restoration().accept(sample_event(), 500));
  EXPECT_GT(store().events().last_number(), 500);
}

TEST_P(Enroll, Fault147_AnAgentChangesWithItsChallengeOrNotAtAll) {
  if (IsSkipped()) return;
  trust("owner");
  const Challenge asked{"r1", "transport", "web1", "asked", "{}", kNow + 1h, {}};
  store().challenges().add(asked, kNow);
  auto failed = asked, staged = asked;
  failed.state = "failed";
  staged.state = "staged";
  ASSERT_TRUE(store().challenges().move(failed, "asked"));
  auto agent = store().agents().find("web1").value();
  agent.next_transport_kid = "new";
  EXPECT_FALSE(store().agents().update(agent, {sample_event(), {}, staged, "asked"}));
  EXPECT_TRUE(store().agents().find("web1")->next_transport_kid.empty());
}

}  // namespace
}  // namespace keyagent::store
