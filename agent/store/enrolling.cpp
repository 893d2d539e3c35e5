// SPDX-License-Identifier: Apache-2.0
// The step of an enrollment that decides: what was checked when it began is checked again here,
// in the transaction that acts.

#include <algorithm>

#include "agent/base/error.h"
#include "agent/store/engine/table.h"
#include "agent/store/enrollments.h"
#include "agent/store/pending.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

using enum EnrollOutcome;

constexpr Column<EnrollmentToken> kTokenColumns[] = {
    column<&EnrollmentToken::hash>("hash").key(),
    column<&EnrollmentToken::agent_id>("agent_id"),
    column<&EnrollmentToken::groups>("group_names"),
    column<&EnrollmentToken::created_by>("created_by"),
    column<&EnrollmentToken::expires>("expires"),
    column<&EnrollmentToken::used_by>("used_by"),
    column<&EnrollmentToken::inherit>("inherit"),
};
constexpr Table<EnrollmentToken> kTokens{"enrolment_tokens", kTokenColumns};

// A token is as good as the right of who made it: a user who was disabled since gives nothing.
std::optional<EnrollmentToken> token_in(Sql& sql, const Bytes& hash, const std::string& agent_id,
                                        WallTime now, const char* lock) {
  return sql.first(kTokens.select() +
                       "WHERE hash = :hash AND used_by = '' AND expires > :now "
                       "AND (agent_id = '' OR agent_id = :agent) AND NOT EXISTS (SELECT 1 "
                       "FROM users WHERE users.name = created_by AND users.disabled <> 0)" +
                       lock,
                   {{"hash", hash}, {"now", now}, {"agent", agent_id}}, kTokens);
}

bool is_reserved(Sql& sql, const std::string& agent_id, WallTime now) {
  return sql.exists(
      "SELECT 1 FROM enrolment_tokens WHERE agent_id = :agent AND used_by = '' "
      "AND expires > :now LIMIT 1",
      {{"agent", agent_id}, {"now", now}});
}

bool is_decided(const Agent& agent) {
  return agent.state != "pending" && agent.state != "rejected";
}

// Compares the agent that has the id with the enrolling one and its keys.
EnrollOutcome against(const Agent& known, const Agent& wanted, bool replace) {
  const bool same =
      known.auth_kid == wanted.auth_kid && known.transport_kid == wanted.transport_kid;
  if (same && known.state == "suspended") return kSuspended;
  if (same && known.state != "revoked") return kKnown;
  if (replace) return kReplaced;
  if (known.auth_kid != wanted.auth_kid) return kOtherKey;
  return known.state == "revoked" ? kRevoked : kOtherTransport;
}

// The current state, with its rows locked by the clause `lock`.
Enrolled look(Sql& sql, const Enrollment& e, const char* lock) {
  Enrolled found;
  const auto is = [&](EnrollOutcome outcome) {
    found.outcome = outcome;
    return found;
  };
  if (is_restored(sql)) return is(kRestored);
  if (!e.token.empty()) {
    found.token = token_in(sql, e.token, e.agent.id, e.now, lock);
    if (!found.token) return is(kTokenRefused);
  }
  found.before = agent_with_key(sql, e.agent.auth_kid);
  if (found.before && found.before->id != e.agent.id) return is(kKeyInUse);
  found.before = agent_in(sql, e.agent.id, lock);
  if (found.before && is_decided(*found.before)) {
    const auto outcome = against(*found.before, e.agent, e.replace);
    const bool right = found.token && found.token->agent_id == e.agent.id;
    if (outcome == kReplaced && !right) return is(kTokenRefused);
    return is(outcome);
  }
  if (!found.token) return is(kPending);
  // Anyone who has the token that was made for this id is waited for.
  if (found.token->agent_id.empty() && is_reserved(sql, e.agent.id, e.now)) return is(kReserved);
  return is(kEntered);
}

bool has_acted(EnrollOutcome outcome) {
  return outcome == kEntered || outcome == kReplaced || outcome == kKnown || outcome == kPending;
}

// The previous agent is replaced: the new one gets nothing of it, unless it inherits.
std::vector<std::string> take_from(Sql& sql, const Agent& before, bool inherit, WallTime now) {
  revoke_certificates(sql, before.id, now, "superseded");
  sql.run("DELETE FROM sealed_copies WHERE agent = :agent", {{"agent", before.id}});
  sql.run(
      "UPDATE rekeys SET state = 'cancelled', detail = 'the agent was replaced', changed = :now "
      "WHERE agent = :agent AND state IN ('ordered', 'sent', 'staged')",
      {{"now", now}, {"agent", before.id}});
  std::vector<std::string> taken;
  if (inherit) return taken;
  const auto all = sql.all<std::string, Names>(
      "SELECT name, agent_names FROM credentials WHERE removed = 0 ORDER BY name");
  for (auto [name, agents] : all) {
    if (std::erase(agents, before.id) == 0) continue;
    sql.run("UPDATE credentials SET agent_names = :agents WHERE name = :name",
            {{"agents", agents}, {"name", name}});
    taken.push_back(name);
  }
  return taken;
}

void write(Sql& sql, Agent agent, const std::optional<Agent>& before) {
  if (before) {
    agent.last_seen = before->last_seen;
    agent.revision = before->revision;
  }
  if (before ? !write_agent(sql, agent) : !insert_agent(sql, agent))
    throw Error(Code::kBusy, "the agent was changed concurrently; try again");
}

bool prove(Sql& sql, const Enrollment& e) {
  const bool alive =
      sql.exists("SELECT 1 FROM challenges WHERE id = :id AND state = 'asked' AND expires > :now",
                 {{"id", e.challenge}, {"now", e.now}});
  return alive &&
         move_challenge_in(sql, {e.challenge, "enrolment", e.agent.id, "proved", e.data, e.expires},
                           "asked");
}

}  // namespace

void Enrollments::add_token(const EnrollmentToken& token) {
  db_.write([&](Sql& sql) { sql.run(kTokens.insert(), kTokens.all(token)); });
}

std::optional<EnrollmentToken> Enrollments::find_token(const Bytes& hash,
                                                       const std::string& agent_id, WallTime now) {
  return db_.read([&](Sql& sql) { return token_in(sql, hash, agent_id, now, ""); });
}

std::int64_t Enrollments::count_tokens(WallTime now) {
  return db_.read([&](Sql& sql) {
    return sql.count("SELECT count(*) FROM enrolment_tokens WHERE used_by = '' AND expires > :now",
                     {{"now", now}});
  });
}

Enrolled Enrollments::preview(const Enrollment& enrollment) {
  return db_.read([&](Sql& sql) { return look(sql, enrollment, ""); });
}

Enrolled Enrollments::enroll(const Enrollment& e, const EnrolledEvent& event) {
  return db_.write([&](Sql& sql) {
    auto found = look(sql, e, sql.for_update());
    if (!has_acted(found.outcome) || !found.token) return found;
    if (!prove(sql, e)) {
      found.outcome = kGone;
      return found;
    }
    sql.run("UPDATE enrolment_tokens SET used_by = :agent WHERE hash = :hash",
            {{"agent", e.agent.id}, {"hash", e.token}});
    found.token->used_by = e.agent.id;
    if (found.outcome != kKnown) {
      Agent agent = e.agent;
      agent.state = "trusted";
      agent.groups = found.token->groups;
      agent.approved_by = "token of " + found.token->created_by;
      if (found.outcome == kReplaced) {
        found.unassigned = take_from(sql, *found.before, found.token->inherit, e.now);
        if (found.token->inherit && agent.groups.empty()) agent.groups = found.before->groups;
      }
      write(sql, std::move(agent), found.before);
      drop_pending(sql, e.agent.id);
    }
    // Resets the agent's session: a token that was created for this id decides which of two copies
    // continues. Any other token must not, or a copy could suppress the clone alarm.
    if (found.outcome != kKnown || found.token->agent_id == e.agent.id)
      sql.run("DELETE FROM agent_sessions WHERE agent = :agent", {{"agent", e.agent.id}});
    insert_event(sql, event(found));
    return found;
  });
}

Enrolled Enrollments::ask_approval(const Enrollment& e, const PendingLimits& limits,
                                   const EnrolledEvent& event) {
  return db_.write([&](Sql& sql) {
    auto found = look(sql, e, sql.for_update());
    if (!has_acted(found.outcome) || found.token) return found;
    if (found.outcome == kPending) found.outcome = add_pending(sql, e, limits);
    if (!has_acted(found.outcome)) return found;
    if (!prove(sql, e)) throw Error(Code::kBusy, "the enrollment was changed concurrently");
    insert_event(sql, event(found));
    return found;
  });
}

Enrolled Enrollments::approve(const std::string& id, const std::string& auth_kid,
                              const std::string& approver, WallTime now,
                              const EnrolledEvent& event) {
  return db_.write([&](Sql& sql) {
    Enrolled found;
    found.outcome = kNotPending;
    const auto pending = pending_in(sql, id, auth_kid, now);
    if (!pending || pending->agent.state != "pending") return found;
    Enrollment as_asked;
    as_asked.agent = pending->agent;
    as_asked.now = now;
    found = look(sql, as_asked, sql.for_update());
    if (found.outcome != kPending) return found;
    found.outcome = kEntered;
    Agent agent = pending->agent;
    agent.state = "trusted";
    agent.approved_by = approver;
    agent.changed = now;
    write(sql, std::move(agent), found.before);
    drop_pending(sql, id);
    insert_event(sql, event(found));
    return found;
  });
}

}  // namespace keyagent::store
