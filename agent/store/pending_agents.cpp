// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/table.h"
#include "agent/store/enrollments.h"
#include "agent/store/pending.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<PendingAgent> kPendingColumns[] = {
    column<&PendingAgent::agent, &Agent::id>("id").key(),
    column<&PendingAgent::agent, &Agent::auth_kid>("auth_kid").key(),
    column<&PendingAgent::agent, &Agent::state>("state"),
    column<&PendingAgent::agent, &Agent::auth_spki>("auth_spki"),
    column<&PendingAgent::agent, &Agent::transport_spki>("transport_spki"),
    column<&PendingAgent::agent, &Agent::transport_kid>("transport_kid"),
    column<&PendingAgent::agent, &Agent::envelope>("envelope"),
    escaped_column<&PendingAgent::agent, &Agent::host>("host"),
    escaped_column<&PendingAgent::agent, &Agent::version>("version"),
    column<&PendingAgent::agent, &Agent::reason>("reason"),
    escaped_column<&PendingAgent::address>("address"),
    column<&PendingAgent::agent, &Agent::enrolled>("asked"),
    column<&PendingAgent::expires>("expires"),
};
constexpr Table<PendingAgent> kPendingAgents{"pending_agents", kPendingColumns};

PendingAgent pending_of(Row& row) {
  auto pending = kPendingAgents(row);
  pending.agent.changed = pending.agent.enrolled;
  return pending;
}

long long count(Sql& sql, const std::string& where, const Bounds& bounds) {
  return sql.count("SELECT count(*) FROM pending_agents" + where, bounds);
}

}  // namespace

// The counter's row is locked until the commit: of two that would be the last one allowed, the
// second sees the first. A request is not signed by the transport key alone: it never changes that
// of a row that a person may be looking at.
EnrollOutcome add_pending(Sql& sql, const Enrollment& e, const PendingLimits& limits) {
  sql.next_number("pending_agents");
  sql.run("DELETE FROM pending_agents WHERE expires <= :now", {{"now", e.now}});
  if (const auto known = pending_in(sql, e.agent.id, e.agent.auth_kid, e.now)) {
    if (known->agent.state == "pending")
      return known->agent.transport_kid == e.agent.transport_kid ? EnrollOutcome::kPending
                                                                 : EnrollOutcome::kOtherTransport;
    sql.run("DELETE FROM pending_agents WHERE id = :id AND auth_kid = :kid",
            {{"id", e.agent.id}, {"kid", e.agent.auth_kid}});
  }
  if (count(sql, "", {}) >= limits.total ||
      count(sql, " WHERE address = :address", {{"address", e.address}}) >= limits.per_address)
    return EnrollOutcome::kFull;
  PendingAgent pending{.agent = e.agent, .address = e.address, .expires = e.expires};
  pending.agent.state = "pending";
  pending.agent.reason.clear();
  pending.agent.enrolled = e.now;
  sql.run(kPendingAgents.insert(), kPendingAgents.all(pending));
  return EnrollOutcome::kPending;
}

std::optional<PendingAgent> pending_in(Sql& sql, const std::string& id, const std::string& auth_kid,
                                       WallTime now) {
  return sql.first(kPendingAgents.select() +
                       "WHERE id = :id AND auth_kid = :kid AND expires > :now" + sql.for_update(),
                   {{"id", id}, {"kid", auth_kid}, {"now", now}}, pending_of);
}

void drop_pending(Sql& sql, const std::string& id) {
  sql.run("DELETE FROM pending_agents WHERE id = :id", {{"id", id}});
}

std::vector<PendingAgent> Enrollments::pending(const std::string& id, WallTime now) {
  return db_.read([&](Sql& sql) {
    return sql.all(kPendingAgents.select() +
                       "WHERE expires > :now AND (:id = '' OR id = :id) ORDER BY id, asked, "
                       "auth_kid",
                   {{"now", now}, {"id", id}}, pending_of);
  });
}

std::int64_t Enrollments::reject(const std::string& id, const std::string& auth_kid,
                                 const std::string& reason, const Event& event) {
  return db_.write([&](Sql& sql) {
    const auto rejected = sql.run(
        "UPDATE pending_agents SET state = 'rejected', reason = :reason "
        "WHERE id = :id AND (:kid = '' OR auth_kid = :kid)",
        {{"reason", reason}, {"id", id}, {"kid", auth_kid}});
    if (rejected > 0) insert_event(sql, event);
    return rejected;
  });
}

}  // namespace keyagent::store
