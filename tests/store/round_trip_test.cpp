// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "agent/store/agents.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "agent/store/logins.h"
#include "agent/store/settings.h"
#include "agent/store/users.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

class RoundTrip : public BothTest {};
KEYAGENT_ON_BOTH(RoundTrip);

TEST_P(RoundTrip, SettingIsReplacedAndReadBackByAnotherStore) {
  EXPECT_EQ(store().settings().get("ca"), std::nullopt);
  store().settings().set("ca", "one");
  store().settings().set("ca", kAwkward);
  store().settings().set(kAwkward, "");
  const auto other = open();
  EXPECT_EQ(other->settings().get("ca"), kAwkward);
  EXPECT_EQ(other->settings().get(kAwkward), "");
}

TEST_P(RoundTrip, SettingWrittenOnceIsNotReplaced) {
  EXPECT_TRUE(store().settings().set_once("id", "first"));
  EXPECT_FALSE(store().settings().set_once("id", "second"));
  EXPECT_EQ(store().settings().get("id"), "first");
}

TEST_P(RoundTrip, AgentIsReadBackInEveryField) {
  const auto agent = sample_agent("host-1");
  EXPECT_TRUE(store().agents().add(agent));
  expect_equal(store().agents().find("host-1").value(), agent);
  expect_equal(store().agents().find_by_auth_kid(agent.auth_kid).value(), agent);
  EXPECT_FALSE(store().agents().find("host-2"));
  EXPECT_FALSE(store().agents().find_by_auth_kid("host-1"));
}

TEST_P(RoundTrip, AgentsAreListedByTheBytesOfTheirId) {
  for (const char* id : {"b", "a.b", "a-b", "ab", "a"}) store().agents().add(sample_agent(id));
  std::vector<std::string> ids;
  for (const auto& agent : store().agents().all()) ids.push_back(agent.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"a", "a-b", "a.b", "ab", "b"}));
}

TEST_P(RoundTrip, AgentOfTheSameIdOrAuthKeyIsNotAdded) {
  const auto agent = sample_agent("host-1");
  ASSERT_TRUE(store().agents().add(agent));
  auto same_id = sample_agent("host-1");
  same_id.auth_kid = "another";
  EXPECT_FALSE(store().agents().add(same_id));
  auto same_key = sample_agent("host-2");
  same_key.auth_kid = agent.auth_kid;
  EXPECT_FALSE(store().agents().add(same_key));
  expect_equal(store().agents().find("host-1").value(), agent);
  EXPECT_EQ(store().agents().all().size(), 1u);
}

TEST_P(RoundTrip, AgentsWithoutAnAuthKeyDoNotCollide) {
  for (const char* id : {"a", "b"}) {
    auto agent = sample_agent(id);
    agent.auth_kid.clear();
    EXPECT_TRUE(store().agents().add(agent));
  }
  EXPECT_FALSE(store().agents().find_by_auth_kid(""));
}

TEST_P(RoundTrip, AgentIsUpdatedOnlyFromItsRevision) {
  auto agent = sample_agent("host-1");
  store().agents().add(agent);
  agent.state = "trusted";
  agent.auth_spki.clear();
  agent.groups.clear();
  agent.previous_transport_kid.clear();
  agent.next_auth_spki = {3};
  agent.next_transport_spki = {4};
  agent.next_auth_kid = "another-auth";
  agent.next_transport_kid = "another-transport";
  agent.next_envelope.clear();
  agent.last_seen = kNow;
  EXPECT_TRUE(store().agents().update(agent));
  auto expected = agent;
  expected.revision += 1;
  expected.last_seen = at(0);
  expect_equal(store().agents().find("host-1").value(), expected);
  agent.state = "revoked";
  EXPECT_FALSE(store().agents().update(agent));
  expect_equal(store().agents().find("host-1").value(), expected);
  agent.id = "nobody";
  EXPECT_FALSE(store().agents().update(agent));
}

TEST_P(RoundTrip, AuthKeyOfAnotherAgentIsRefusedInAnUpdate) {
  store().agents().add(sample_agent("host-1"));
  auto agent = sample_agent("host-2");
  store().agents().add(agent);
  agent.auth_kid = "auth-host-1";
  EXPECT_EQ(code_of([&] { store().agents().update(agent); }), Code::kExists);
  EXPECT_EQ(store().agents().find("host-2")->auth_kid, "auth-host-2");
}

TEST_P(RoundTrip, LastSeenMovesForwardOnlyAndLeavesTheRevision) {
  store().agents().add(sample_agent("host-1"));
  store().agents().mark_seen("host-1", kNow);
  store().agents().mark_seen("host-1", kNow - std::chrono::seconds(5));
  store().agents().mark_seen("nobody", kNow);
  const auto agent = store().agents().find("host-1").value();
  EXPECT_EQ(agent.last_seen, kNow);
  EXPECT_EQ(agent.revision, 7);
}

TEST_P(RoundTrip, EnrollmentTokenIsUsedOnceByItsAgentBeforeItExpires) {
  const EnrollmentToken token{.hash = random_bytes(32),
                              .agent_id = "host-1",
                              .groups = {"web", kAwkward},
                              .created_by = kAwkward,
                              .expires = kNow,
                              .used_by = ""};
  store().enrollments().add_token(token);
  const auto before = kNow - std::chrono::milliseconds(1);
  EXPECT_FALSE(use_token(store(), random_bytes(32), "host-1", before));
  EXPECT_FALSE(use_token(store(), token.hash, "host-2", before));
  EXPECT_FALSE(use_token(store(), token.hash, "", before));
  EXPECT_FALSE(use_token(store(), token.hash, "host-1", kNow));
  const auto used = use_token(store(), token.hash, "host-1", before);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->hash, token.hash);
  EXPECT_EQ(used->agent_id, "host-1");
  EXPECT_EQ(used->groups, token.groups);
  EXPECT_EQ(used->created_by, kAwkward);
  EXPECT_EQ(used->expires, kNow);
  EXPECT_EQ(used->used_by, "host-1");
  EXPECT_FALSE(use_token(store(), token.hash, "host-1", before));
}

TEST_P(RoundTrip, EnrollmentTokenForAnyAgentIsUsedByTheFirst) {
  const auto token = token_of(random_bytes(32), kNow);
  store().enrollments().add_token(token);
  EXPECT_EQ(code_of([&] { store().enrollments().add_token(token); }), Code::kExists);
  EXPECT_TRUE(use_token(store(), token.hash, "host-9", at(0)));
  EXPECT_FALSE(use_token(store(), token.hash, "host-1", at(0)));
}

TEST_P(RoundTrip, ChallengeIsReadUntilItExpiresAndMovedOnlyFromItsState) {
  Challenge asked{.id = "00ff",
                  .kind = "enrolment",
                  .agent = "host-1",
                  .state = "asked",
                  .data = kAwkward,
                  .expires = kNow};
  store().challenges().add(asked, at(0));
  EXPECT_EQ(code_of([&] { store().challenges().add(asked, at(0)); }), Code::kExists);
  EXPECT_FALSE(store().challenges().find("00ff", kNow));
  EXPECT_FALSE(store().challenges().find("none", at(0)));
  auto moved = asked;
  moved.state = "answered";
  moved.data = "{}";
  moved.expires += std::chrono::seconds(1);
  EXPECT_FALSE(store().challenges().move(moved, "answered"));
  auto read = store().challenges().find("00ff", kNow - std::chrono::milliseconds(1)).value();
  EXPECT_EQ(read.id, "00ff");
  EXPECT_EQ(read.kind, "enrolment");
  EXPECT_EQ(read.agent, "host-1");
  EXPECT_EQ(read.state, "asked");
  EXPECT_EQ(read.data, kAwkward);
  EXPECT_EQ(read.expires, kNow);
  EXPECT_TRUE(store().challenges().move(moved, "asked"));
  EXPECT_FALSE(store().challenges().move(moved, "asked"));
  read = store().challenges().find("00ff", kNow).value();
  EXPECT_EQ(read.state, "answered");
  EXPECT_EQ(read.data, "{}");
  EXPECT_EQ(read.expires, moved.expires);
}

TEST_P(RoundTrip, ExpiredChallengesAreDroppedByTheNextAndByForgetting) {
  const auto add = [&](const char* id, WallTime expires, WallTime now) {
    Challenge challenge{.id = id,
                        .kind = "transport",
                        .agent = "",
                        .state = "asked",
                        .data = "",
                        .expires = expires};
    store().challenges().add(challenge, now);
  };
  const auto later = kNow + std::chrono::milliseconds(1);
  add("old", kNow, at(0));
  add("recent", later, at(0));
  add("new", kNow + std::chrono::hours(1), kNow);
  EXPECT_FALSE(store().challenges().find("old", at(0)));
  EXPECT_TRUE(store().challenges().find("recent", at(0)));
  store().forget_expired(later);
  EXPECT_FALSE(store().challenges().find("recent", at(0)));
  EXPECT_TRUE(store().challenges().find("new", at(0)));
}

TEST_P(RoundTrip, CertificateIsReadBackAndRevokedOnce) {
  Certificate certificate{.serial = "0a1b",
                          .agent = "host-1",
                          .kid = "kid-1",
                          .not_before = kNow,
                          .not_after = at(7'258'118'399'999),  // the end of 2199
                          .revoked = std::nullopt,
                          .reason = "",
                          .der = random_bytes(700)};
  store().certificates().add(certificate);
  EXPECT_EQ(code_of([&] { store().certificates().add(certificate); }), Code::kExists);
  auto own = certificate;
  own.serial = "0a1c";
  own.agent.clear();
  own.not_before = at(0);
  own.revoked = at(0);
  store().certificates().add(own);
  EXPECT_TRUE(store().certificates().revoke("0a1b", kNow, "keyCompromise"));
  EXPECT_FALSE(store().certificates().revoke("0a1b", at(1), "superseded"));
  EXPECT_FALSE(store().certificates().revoke("ffff", at(1), "superseded"));
  ASSERT_EQ(store().certificates().list("host-1").size(), 1u);
  const auto read = store().certificates().list("host-1").front();
  EXPECT_EQ(read.serial, "0a1b");
  EXPECT_EQ(read.agent, "host-1");
  EXPECT_EQ(read.kid, "kid-1");
  EXPECT_EQ(read.not_before, certificate.not_before);
  EXPECT_EQ(read.not_after, certificate.not_after);
  EXPECT_EQ(read.revoked, kNow);
  EXPECT_EQ(read.reason, "keyCompromise");
  EXPECT_EQ(read.der, certificate.der);
  const auto all = store().certificates().list("");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].serial, "0a1c");
  EXPECT_EQ(all[0].revoked, at(0));
  ASSERT_EQ(store().certificates().own().size(), 1u);
  EXPECT_EQ(store().certificates().own().front().serial, "0a1c");
  certificate.serial = "0a1d";
  store().certificates().add(certificate);  // not revoked
  const auto revoked = store().certificates().revoked(kNow);
  ASSERT_EQ(revoked.size(), 2u);
  EXPECT_EQ(revoked[1].serial, "0a1b");
  EXPECT_EQ(revoked[1].revoked, kNow);
  EXPECT_EQ(revoked[1].reason, "keyCompromise");
  EXPECT_TRUE(store().certificates().revoked(certificate.not_after).empty());  // expired
}

TEST_P(RoundTrip, EventsAreNumberedFromOneAndReadOnFromAny) {
  Event event{.at = kNow,
              .actor = kAwkward,
              .action = "agent.approve",
              .subject = "host-1",
              .outcome = "done",
              .text = kAwkward};
  for (int i = 1; i <= 5; ++i) EXPECT_EQ(store().events().add(event), i);
  const auto some = store().events().list(2, 2);
  ASSERT_EQ(some.size(), 2u);
  EXPECT_EQ(some[0].seq, 3);
  EXPECT_EQ(some[1].seq, 4);
  EXPECT_EQ(some[0].at, kNow);
  EXPECT_EQ(some[0].actor, kAwkward);
  EXPECT_EQ(some[0].action, "agent.approve");
  EXPECT_EQ(some[0].subject, "host-1");
  EXPECT_EQ(some[0].outcome, "done");
  EXPECT_EQ(some[0].text, kAwkward);
  EXPECT_TRUE(store().events().list(5, 10).empty());
  EXPECT_EQ(store().events().list(0, static_cast<std::size_t>(-1)).size(), 5u);
}

TEST_P(RoundTrip, TextThatCannotBeStoredDoesNotStopAnEventAndIsRefusedAsAName) {
  const std::string nul("a\0b", 3), foreign = "a\xff";
  store().events().add(
      {.at = kNow, .actor = nul, .action = "x", .subject = foreign, .outcome = "done", .text = ""});
  const auto event = store().events().list(0, 1).at(0);
  EXPECT_EQ(event.actor, escape_controls(nul));
  EXPECT_EQ(event.subject, escape_controls(foreign));
  for (const auto& name : {nul, foreign}) {
    EXPECT_EQ(code_of([&] { store().settings().set(name, "x"); }), Code::kUsage);
    EXPECT_EQ(code_of([&] { store().agents().find(name); }), Code::kUsage);
    auto agent = sample_agent("host-1");
    agent.groups = {foreign};
    EXPECT_EQ(code_of([&] { store().agents().add(agent); }), Code::kUsage);
  }
  EXPECT_TRUE(store().agents().all().empty());
}

TEST_P(RoundTrip, TimeIsKeptToTheMillisecondAndRoundedDown) {
  auto agent = sample_agent("host-1");
  agent.enrolled = kNow + std::chrono::microseconds(999);
  agent.changed = at(-1) - std::chrono::microseconds(1);
  store().agents().add(agent);
  EXPECT_EQ(store().agents().find("host-1")->enrolled, kNow);
  EXPECT_EQ(store().agents().find("host-1")->changed, at(-2));
}

TEST_P(RoundTrip, LoginOfAnUnknownUserIsRefused) {
  EXPECT_FALSE(store().logins().add({random_bytes(32), "nobody", kNow, kNow}, {.name = "nobody"}));
}

TEST_P(RoundTrip, ErrorTextHasNoValueInIt) {
  EnrollmentToken token;
  token.hash = {'c', 'a', 'n', 'a', 'r', 'y'};
  token.created_by = "canary";
  store().enrollments().add_token(token);
  try {
    store().enrollments().add_token(token);
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find("canary"), std::string::npos) << text;
    EXPECT_EQ(text.find(to_base64url(token.hash)), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace keyagent::store
