// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows with something in every field, and their comparison.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/store/challenges.h"
#include "agent/store/enrollments.h"
#include "agent/store/store.h"
#include "agent/store/tasks.h"
#include "tests/support/code_of.h"

namespace keyagent::store {

inline WallTime at(long long milliseconds) {
  return WallTime(std::chrono::milliseconds(milliseconds));
}
// Beyond 32 bits, and not a whole second.
inline const WallTime kNow = at(1'795'257'296'789);

// What a careless statement would stumble over.
inline const std::string kAwkward =
    "O'Brien\"; DROP TABLE agents; -- :name $1 %s \\ \n\t ключ 鍵 🔑";

inline Agent sample_agent(const std::string& id) {
  return {.id = id,
          .state = "pending",
          .auth_spki = random_bytes(91),
          .transport_spki = {0, 0xff, 0, 0x27},
          .auth_kid = "auth-" + id,
          .transport_kid = "transport-" + id,
          .previous_transport_kid = "old-" + id,
          .envelope = "ECDH-ES+A256KW",
          .next_auth_spki = {1},
          .next_transport_spki = {2},
          .next_auth_kid = "next-auth",
          .next_transport_kid = "next-transport",
          .next_envelope = "RSA-OAEP-256",
          .host = kAwkward,
          .version = "1.2.3",
          .groups = {"web", kAwkward, ""},
          .approved_by = "ada",
          .reason = kAwkward,
          .enrolled = kNow,
          .changed = kNow + std::chrono::milliseconds(1),
          .last_seen = at(0),
          .revision = 7};
}

// The last step of an enrollment, its challenge in the store; `key` names both of its keys.
inline Enrollment sample_enrollment(Store& store, const std::string& id, const std::string& key,
                                    const Bytes& token = {}, WallTime now = kNow) {
  Enrollment e;
  e.challenge = to_hex(random_bytes(16));
  e.data = "{}";
  e.now = now;
  e.expires = now + std::chrono::hours(24);
  e.agent.id = id;
  e.agent.auth_spki = {1};
  e.agent.auth_kid = "auth-" + key;
  e.agent.transport_spki = {2};
  e.agent.transport_kid = "transport-" + key;
  e.agent.enrolled = e.agent.changed = now;
  e.token = token;
  e.address = "192.0.2.1";
  store.challenges().add(
      {e.challenge, "enrolment", id, "asked", "{}", now + std::chrono::hours(1), {}}, now);
  return e;
}

// Enrolls with a token and new keys.
inline std::optional<EnrollmentToken> use_token(Store& store, const Bytes& hash,
                                                const std::string& id, WallTime now) {
  const auto e = sample_enrollment(store, id, to_hex(random_bytes(8)), hash, now);
  const auto found = store.enrollments().enroll(e, [](const auto&) { return Event{}; });
  return found.outcome == EnrollOutcome::kEntered ? found.token : std::nullopt;
}

inline void expect_equal(const Agent& a, const Agent& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.auth_spki, b.auth_spki);
  EXPECT_EQ(a.transport_spki, b.transport_spki);
  EXPECT_EQ(a.auth_kid, b.auth_kid);
  EXPECT_EQ(a.transport_kid, b.transport_kid);
  EXPECT_EQ(a.previous_transport_kid, b.previous_transport_kid);
  EXPECT_EQ(a.envelope, b.envelope);
  EXPECT_EQ(a.next_auth_spki, b.next_auth_spki);
  EXPECT_EQ(a.next_transport_spki, b.next_transport_spki);
  EXPECT_EQ(a.next_auth_kid, b.next_auth_kid);
  EXPECT_EQ(a.next_transport_kid, b.next_transport_kid);
  EXPECT_EQ(a.next_envelope, b.next_envelope);
  EXPECT_EQ(a.host, b.host);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.groups, b.groups);
  EXPECT_EQ(a.approved_by, b.approved_by);
  EXPECT_EQ(a.reason, b.reason);
  EXPECT_EQ(a.enrolled, b.enrolled);
  EXPECT_EQ(a.changed, b.changed);
  EXPECT_EQ(a.last_seen, b.last_seen);
  EXPECT_EQ(a.revision, b.revision);
}

inline Credential sample_credential(const std::string& name) {
  return {.name = name,
          .type = "password",
          .version = 0,
          .blind = true,
          .kid = "",
          .envelope = {},
          .agents = {"host-1", "host-2"},
          .groups = {kAwkward},
          .changed_by = kAwkward,
          .changed = kNow};
}

inline void expect_equal(const Credential& a, const Credential& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.blind, b.blind);
  EXPECT_EQ(a.kid, b.kid);
  EXPECT_EQ(a.envelope, b.envelope);
  EXPECT_EQ(a.agents, b.agents);
  EXPECT_EQ(a.groups, b.groups);
  EXPECT_EQ(a.changed_by, b.changed_by);
  EXPECT_EQ(a.changed, b.changed);
  EXPECT_EQ(a.removed, b.removed);
}

inline Rekey sample_rekey(const std::string& agent) {
  return {.batch = "batch-1",
          .agent = agent,
          .key = "transport",
          .state = "ordered",
          .old_kid = "kid-1",
          .new_kid = "",
          .ordered_by = "ada",
          .detail = kAwkward,
          .ordered = kNow,
          .changed = kNow,
          .canary = true};
}

inline void expect_equal(const Rekey& a, const Rekey& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.batch, b.batch);
  EXPECT_EQ(a.agent, b.agent);
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.old_kid, b.old_kid);
  EXPECT_EQ(a.new_kid, b.new_kid);
  EXPECT_EQ(a.ordered_by, b.ordered_by);
  EXPECT_EQ(a.detail, b.detail);
  EXPECT_EQ(a.ordered, b.ordered);
  EXPECT_EQ(a.changed, b.changed);
  EXPECT_EQ(a.canary, b.canary);
}

inline Event sample_event(const std::string& action = "test") {
  return {.at = kNow,
          .actor = kAwkward,
          .action = action,
          .subject = "",
          .outcome = "done",
          .text = ""};
}

// Queued, and no one had it yet.
inline Task sample_task(const std::string& id, const std::string& target = "agent:host-1") {
  Task task;
  task.id = id;
  task.digest = "digest-" + id;
  task.handler = "deploy";
  task.target = target;
  task.state = "queued";
  task.input = "{\"what\":\"" + id + "\"}";
  task.credential = "db";
  task.repeatable = true;
  task.attempts = 5;
  task.seconds = 600;
  task.not_before = task.submitted = task.changed = kNow;
  task.submitted_by = "ada";
  return task;
}

inline TaskClaim sample_claim(const std::string& agent = "host-1") {
  return {.agent = agent,
          .targets = {"agent:" + agent},
          .handlers = {"deploy"},
          .lease = random_bytes(32),
          .now = kNow,
          .life = std::chrono::seconds(60)};
}

// Takes and starts it.
inline std::optional<Task> take_and_start(Store& store, const TaskClaim& claim) {
  auto task = store.tasks().claim(claim);
  if (!task) return task;
  task->state = "started";
  EXPECT_TRUE(store.tasks().move(*task));
  ++task->revision;
  return task;
}

inline void expect_equal(const Task& a, const Task& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.number, b.number);
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.digest, b.digest);
  EXPECT_EQ(a.handler, b.handler);
  EXPECT_EQ(a.target, b.target);
  EXPECT_EQ(a.agent, b.agent);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.input, b.input);
  EXPECT_EQ(a.credential, b.credential);
  EXPECT_EQ(a.priority, b.priority);
  EXPECT_EQ(a.repeatable, b.repeatable);
  EXPECT_EQ(a.attempt, b.attempt);
  EXPECT_EQ(a.attempts, b.attempts);
  EXPECT_EQ(a.seconds, b.seconds);
  EXPECT_EQ(a.not_before, b.not_before);
  EXPECT_EQ(a.submitted_by, b.submitted_by);
  EXPECT_EQ(a.submitted, b.submitted);
  EXPECT_EQ(a.changed, b.changed);
  EXPECT_EQ(a.lease, b.lease);
  EXPECT_EQ(a.lease_until, b.lease_until);
  EXPECT_EQ(a.lease_life, b.lease_life);
  EXPECT_EQ(a.cancelling, b.cancelling);
  EXPECT_EQ(a.said, b.said);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.result, b.result);
  EXPECT_EQ(a.revision, b.revision);
}

inline EnrollmentToken token_of(const Bytes& hash, WallTime expires) {
  EnrollmentToken token;
  token.hash = hash;
  token.expires = expires;
  return token;
}

}  // namespace keyagent::store
