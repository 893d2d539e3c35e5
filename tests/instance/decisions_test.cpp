// SPDX-License-Identifier: Apache-2.0
// What waits for a second person, on a real store.

#include "agent/instance/common/decisions.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/base/error.h"
#include "agent/store/events.h"
#include "agent/store/settings.h"
#include "agent/store/users.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

const AuthenticatedUser kAlice{"alice", Role::kCryptographicManager},
    kBob{"bob", Role::kCryptographicManager};
const AuthenticatedUser kOps{"ops", Role::kOperator}, kAudit{"audit", Role::kAuditor};

class DecisionsTest : public testing::Test {
 protected:
  DecisionsTest() {
    for (const auto& each : {kAlice, kBob, kOps, kAudit})
      store_.users().add({each.name, std::string(name_of(each.role)), "hash", "", false});
    decisions_.handle("peers", {Right::kExchange, Right::kExchange,
                                [this](const std::string&, const Json&) { return Json(fact_); },
                                [this](const std::string& subject, const Json&, const std::string&,
                                       const AuthenticatedUser&) {
                                  store_.settings().set("peer", subject);
                                  ++acts_;
                                  if (fails_) throw Error(Code::kBusy, "not now");
                                }});
  }
  std::string ask(const std::string& subject = "berlin", const AuthenticatedUser& by = kAlice) {
    const Json asked = decisions_.ask("peers", subject, {{"identity", "k"}}, "a peer", by);
    return asked.at("decision").at("id");
  }
  std::string state(const std::string& id) {
    return decisions_.show(id).at("decision").at("state");
  }
  Code approve(const std::string& id, const AuthenticatedUser& by) {
    return code_of([&] { decisions_.approve(id, by); });
  }
  void disable(const AuthenticatedUser& person) {
    auto user = store_.users().find(person.name).value();
    const auto before = user;
    user.disabled = true;
    store_.users().update(before, user, recorder_.make(Outcome::kDone, "test", "x", "x"));
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  store::Store store_{{"sqlite://" + (folder_.path() / "store/instance.db").string()}};
  Recorder recorder_{store_, clock_};
  Decisions decisions_{store_, recorder_, clock_};
  std::string fact_ = "as it was";
  std::atomic<int> acts_ = 0;
  bool fails_ = false;
};

TEST_F(DecisionsTest, Fault159_OnlyAnotherPersonWithTheRightDecides) {
  const auto id = ask();
  EXPECT_EQ(ask(), id);  // the same again is the same request
  EXPECT_EQ(approve(id, kAlice), Code::kDenied);
  EXPECT_EQ(approve(id, kOps), Code::kDenied);
  EXPECT_EQ(approve(id, kAudit), Code::kDenied);
  EXPECT_EQ(acts_, 0);
  EXPECT_EQ(state(id), "pending");
  EXPECT_EQ(approve(id, kBob), Code::kOk);
  EXPECT_EQ(approve(id, kBob), Code::kOk);
  EXPECT_EQ(acts_, 1);
  EXPECT_EQ(state(id), "approved");
  EXPECT_EQ(code_of([&] { decisions_.reject(id, "", kBob); }), Code::kKeyState);
}

TEST_F(DecisionsTest, Fault159_TheFactsOfARequestAreRecheckedInTheTransaction) {
  const auto id = ask();
  fact_ = "another identity";
  EXPECT_EQ(approve(id, kBob), Code::kKeyState);
  EXPECT_EQ(state(id), "failed");
  EXPECT_EQ(acts_, 0);
}

TEST_F(DecisionsTest, Fault159_WhoAskedMustStillHaveTheRight) {
  const auto id = ask();
  disable(kAlice);
  EXPECT_EQ(approve(id, kBob), Code::kDenied);
  const auto own = ask("rome", kBob);
  disable(kBob);
  EXPECT_EQ(approve(own, {"bob2", Role::kCryptographicManager}), Code::kDenied);
  EXPECT_EQ(acts_, 0);
}

TEST_F(DecisionsTest, Fault159_WhatFailsIsUndoneAndStaysPending) {
  const auto id = ask();
  fails_ = true;
  EXPECT_EQ(approve(id, kBob), Code::kBusy);
  EXPECT_FALSE(store_.settings().get("peer"));
  EXPECT_EQ(state(id), "pending");
  fails_ = false;
  EXPECT_EQ(approve(id, kBob), Code::kOk);
  EXPECT_EQ(store_.settings().get("peer"), "berlin");
}

TEST_F(DecisionsTest, Fault159_OfTwoThatApproveAtOnceOneDoes) {
  store_.users().add({"carl", "admin", "hash", "", false});
  for (int i = 0; i < 5; ++i) {
    const auto id = ask("peer" + std::to_string(i));
    std::atomic<int> done = 0;
    std::vector<std::thread> both;
    for (const auto& person : {kBob, AuthenticatedUser{"carl", Role::kAdmin}})
      both.emplace_back([&, person] { done += approve(id, person) == Code::kOk ? 1 : 0; });
    for (auto& each : both) each.join();
    EXPECT_EQ(done, 1);
    int approvals = 0;
    for (const auto& each : store_.events().list(0, 1000))
      approvals += each.action == "decision.approve" && each.subject == id ? 1 : 0;
    EXPECT_EQ(approvals, 1);
  }
}

TEST_F(DecisionsTest, Fault159_ARequestExpiresOrIsWithdrawnAndTheLimitIsPerUser) {
  const auto old = ask();
  clock_.advance(std::chrono::hours(24 * 7 + 1));
  EXPECT_EQ(approve(old, kBob), Code::kKeyState);
  decisions_.tick();
  EXPECT_EQ(state(old), "expired");
  const auto withdrawn = ask();
  EXPECT_EQ(code_of([&] { decisions_.reject(withdrawn, "", kAudit); }), Code::kDenied);
  decisions_.reject(withdrawn, "a mistake", kAlice);
  EXPECT_EQ(approve(withdrawn, kBob), Code::kKeyState);
  for (int i = 0; i < 100; ++i) ask("p" + std::to_string(i));
  EXPECT_EQ(code_of([&] { ask("one too many"); }), Code::kBusy);
  EXPECT_EQ(code_of([&] { ask("another's", kBob); }), Code::kOk);
  EXPECT_EQ(acts_, 0);
}

}  // namespace
}  // namespace keyagent::instance
