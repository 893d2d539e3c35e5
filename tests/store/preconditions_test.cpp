// SPDX-License-Identifier: Apache-2.0
// Every protocol of several steps: what its first step rested on is taken away before the second.

#include <gtest/gtest.h>

#include "agent/store/agent_sessions.h"
#include "agent/store/agents.h"
#include "agent/store/audit_checkpoints.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/credentials.h"
#include "agent/store/exchanges.h"
#include "agent/store/peers.h"
#include "agent/store/rekeys.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/tasks.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

class Preconditions : public BothTest {
 protected:
  Agent trusted(const std::string& id = "host-1") {
    auto agent = sample_agent(id);
    agent.state = "trusted";
    agent.groups = {"web"};
    store().agents().add(agent);
    return store().agents().find(id).value();
  }
  void change(const std::function<void(Agent&)>& edit, const std::string& id = "host-1") {
    auto agent = store().agents().find(id).value();
    edit(agent);
    ASSERT_TRUE(store().agents().update(agent));
  }
  static void suspend(Agent& agent) { agent.state = "suspended"; }
};
KEYAGENT_ON_BOTH(Preconditions);

TEST_P(Preconditions, Fault147_ATaskIsTakenByATrustedAgentForItsOwnTargetsOnly) {
  if (IsSkipped()) return;
  const auto agent = trusted();
  store().tasks().add(sample_task("1", "group:web"), 10, sample_event());
  auto claim = sample_claim();
  claim.targets = {"agent:host-1", "group:web"};
  claim.auth_kid = agent.auth_kid;
  change(suspend);
  EXPECT_FALSE(store().tasks().claim(claim)) << "suspended after it was identified";
  change([](Agent& a) { a.state = "trusted", a.auth_kid = "another"; });
  EXPECT_FALSE(store().tasks().claim(claim)) << "replaced";
  change([&](Agent& a) { a.auth_kid = agent.auth_kid, a.groups.clear(); });
  EXPECT_FALSE(store().tasks().claim(claim)) << "no longer in the group";
  change([](Agent& a) { a.groups = {"web"}; });
  ASSERT_TRUE(store().tasks().claim(claim));
  auto outside = claim;
  outside.targets = {"agent:host-1"};
  EXPECT_FALSE(store().tasks().claim(outside)) << "what it took for a group it has left";
  EXPECT_TRUE(store().tasks().claim(claim));
}

TEST_P(Preconditions, Fault147_ARekeyIsConfirmedWhileItsNewKeyIsTheTrustedOne) {
  if (IsSkipped()) return;
  trusted();
  auto rekey = sample_rekey("host-1");
  rekey.id = store().rekeys().add(rekey);
  rekey.new_kid = "transport-host-1";
  rekey.state = "confirmed";
  change(suspend);
  EXPECT_FALSE(store().rekeys().confirm(rekey, "ordered")) << "trust has ended";
  change([](Agent& a) { a.state = "trusted", a.transport_kid = "other"; });
  EXPECT_FALSE(store().rekeys().confirm(rekey, "ordered")) << "another key";
  change([](Agent& a) { a.transport_kid = "transport-host-1"; });
  EXPECT_TRUE(store().rekeys().confirm(rekey, "ordered"));
}

TEST_P(Preconditions, Fault147_NoOrderIsSentToAnAgentThatIsNoLongerTrusted) {
  if (IsSkipped()) return;
  trusted();
  store().rekeys().add_batch({sample_rekey("host-1")}, "s", "{}");
  const auto orders = store().rekeys().of_batch("batch-1");
  change(suspend);
  EXPECT_TRUE(store().rekeys().claim("batch-1", orders, 4, kNow).empty());
  change([](Agent& a) { a.state = "trusted"; });
  EXPECT_EQ(store().rekeys().claim("batch-1", orders, 4, kNow).size(), 1u);
}

TEST_P(Preconditions, Fault147_ACopyIsSealedToAKeyThatTheAgentStillHas) {
  if (IsSkipped()) return;
  trusted();
  store().credentials().put(sample_credential("db"), nullptr);
  EXPECT_TRUE(store().sealed_copies().put({"db", 1, "host-1", "transport-host-1", {1}}));
  change([](Agent& a) { a.transport_kid = "fresh", a.previous_transport_kid.clear(); });
  EXPECT_FALSE(store().sealed_copies().put({"db", 1, "host-1", "transport-host-1", {2}}));
  EXPECT_TRUE(store().sealed_copies().put({"db", 1, "host-1", "fresh", {2}}));
  change([](Agent& a) { a.state = "revoked"; });
  EXPECT_FALSE(store().sealed_copies().put({"db", 1, "host-1", "fresh", {3}}));
}

TEST_P(Preconditions, Fault147_AnImportedCertificateIsForARequestThatWaitsAndATrustedKey) {
  if (IsSkipped()) return;
  trusted();
  Challenge waiting{"certificate host-1 k", "certificate", "host-1", "asked", "", kNow + 1h, {}};
  store().challenges().add(waiting, kNow);
  waiting.state = "certified";
  const auto import = [&](const std::string& serial) {
    return store().certificates().issue(
        {serial, "host-1", "auth-host-1", kNow, kNow + 24h, std::nullopt, "", {1}}, {}, kNow,
        &waiting, "asked");
  };
  change(suspend);
  EXPECT_EQ(import("1"), IssueOutcome::kNotTrusted);
  change([](Agent& a) { a.state = "trusted", a.auth_kid = "replaced"; });
  EXPECT_EQ(import("1"), IssueOutcome::kNotTrusted);
  change([](Agent& a) { a.auth_kid = "auth-host-1"; });
  EXPECT_EQ(import("1"), IssueOutcome::kIssued);
  EXPECT_EQ(import("2"), IssueOutcome::kGone) << "one was imported already";
  EXPECT_EQ(store().certificates().list("host-1").size(), 1u);
}

TEST_P(Preconditions, Fault147_APolicyApprovesWhileItIsThereAndAOneTimeOneOnce) {
  if (IsSkipped()) return;
  Peer peer;
  peer.identity = peer.name = "target";
  peer.automatic = R"({"frequencies":["one-time-clone"]})";
  store().peers().add(peer);
  std::vector<Exchange> rows;
  for (const char* id : {"1", "2"}) {
    Exchange row;
    row.id = id;
    row.side = "source";
    row.own = "me";
    row.peer = "target";
    row.frequency = "one-time-clone";
    row.state = "pending";
    store().exchanges().add(row, 10, sample_event());
    rows.push_back(store().exchanges().find(id).value());
    rows.back().state = "approved";
  }
  auto used = store().peers().find("target").value();  // both requests have read it
  used.automatic.clear();
  EXPECT_TRUE(store().exchanges().approve_by_policy(rows[0], used, sample_event()));
  EXPECT_FALSE(store().exchanges().approve_by_policy(rows[1], used, sample_event()));
  EXPECT_EQ(store().exchanges().find("2")->state, "pending");
  EXPECT_TRUE(store().peers().find("target")->automatic.empty());
  auto again = store().peers().find("target").value();
  rows[1].revision = 99;
  EXPECT_EQ(code_of([&] { store().exchanges().approve_by_policy(rows[1], again, sample_event()); }),
            Code::kBusy);
  EXPECT_EQ(store().peers().find("target")->revision, again.revision) << "neither, or both";
}

TEST_P(Preconditions, Fault147_WorkForAPeersOldIdentityIsNotFinishedForItsNewOne) {
  if (IsSkipped()) return;
  Peer peer;
  peer.identity = peer.name = "before";
  store().peers().add(peer);
  Exchange row;
  row.id = "1";
  row.side = "source";
  row.own = "me";
  row.peer = "before";
  row.state = "approved";
  store().exchanges().add(row, 10, sample_event());
  auto working = store().exchanges().find("1").value();
  ASSERT_TRUE(store().peers().replace("before", "after"));
  working.state = "exported";
  EXPECT_FALSE(store().exchanges().move(working)) << "packages wrapped for the one before";
}

TEST_P(Preconditions, Fault138_Fault147_ACheckpointIsOfATrustedAgentsPresentEnrollment) {
  if (IsSkipped()) return;
  const auto before = trusted();
  const auto checkpoint = [](WallTime enrolled, std::int64_t size) {
    return AuditCheckpoint{.agent = "host-1",
                           .enrolled = enrolled,
                           .size = size,
                           .hash = "hash",
                           .kid = "kid",
                           .text = "{}",
                           .noted = kNow};
  };
  ASSERT_TRUE(store().audit_checkpoints().keep(checkpoint(before.enrolled, 300)));
  const auto after = before.enrolled + 1h;
  change([&](Agent& a) { a.enrolled = after; });
  ASSERT_TRUE(store().audit_checkpoints().keep(checkpoint(after, 10)));
  EXPECT_FALSE(store().audit_checkpoints().keep(checkpoint(before.enrolled, 301)))
      << "a link of the enrollment that was replaced";
  EXPECT_EQ(store().audit_checkpoints().find("host-1", after).value().size, 10);
  change(suspend);
  EXPECT_FALSE(store().audit_checkpoints().keep(checkpoint(after, 11)));
  EXPECT_EQ(store().audit_checkpoints().find("host-1", after).value().size, 10);
  change([](Agent& a) { a.state = "trusted"; });
  EXPECT_EQ(store().audit_checkpoints().keep(checkpoint(after, 9)).value().size, 10);
  EXPECT_EQ(store().audit_checkpoints().keep(checkpoint(after, 11)).value().size, 11);
}

TEST_P(Preconditions, Fault147_Fault168_ASessionIsForgottenWithTheChangeOrNotAtAll) {
  if (IsSkipped()) return;
  const auto agent = trusted();
  ASSERT_TRUE(store().agent_sessions().advance("host-1", agent.enrolled, "", "first"));
  AgentChange with;
  with.forget_session = true;
  auto stale = agent;
  --stale.revision;
  EXPECT_FALSE(store().agents().update(stale, with));
  EXPECT_FALSE(store().agent_sessions().advance("host-1", agent.enrolled, "copy", "of a copy"))
      << "what was not resumed is still told from its copy";
  ASSERT_TRUE(store().agents().update(agent, with));
  EXPECT_TRUE(store().agent_sessions().advance("host-1", agent.enrolled, "copy", "of a copy"));
}

}  // namespace
}  // namespace keyagent::store
