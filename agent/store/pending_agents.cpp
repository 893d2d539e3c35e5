// SPDX-License-Identifier: Apache-2.0
#include "agent/store/pending.h"

namespace keyagent::store {
namespace {

const std::string kSelectPendingAgents =
    "SELECT id, auth_kid, state, auth_spki, transport_spki, transport_kid, envelope, host, "
    "version, reason, address, asked, expires FROM pending_agents ";

PendingAgent pending_of(const Row& row) {
  PendingAgent pending;
  pending.agent.id = row.text(0);
  pending.agent.auth_kid = row.text(1);
  pending.agent.state = row.text(2);
  pending.agent.auth_spki = row.bytes(3);
  pending.agent.transport_spki = row.bytes(4);
  pending.agent.transport_kid = row.text(5);
  pending.agent.envelope = row.text(6);
  pending.agent.host = row.text(7);
  pending.agent.version = row.text(8);
  pending.agent.reason = row.text(9);
  pending.agent.enrolled = pending.agent.changed = row.time(11);
  pending.address = row.text(10);
  pending.expires = row.time(12);
  return pending;
}

long long count(Sql& sql, const std::string& where, const Bounds& bounds) {
  return sql
      .first("SELECT count(*) FROM pending_agents" + where, bounds,
             [](const Row& row) { return row.number(0); })
      .value_or(0);
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
  sql.run(
      "INSERT INTO pending_agents (id, auth_kid, state, auth_spki, transport_spki, transport_kid, "
      "envelope, host, version, reason, address, asked, expires) VALUES (:id, :kid, 'pending', "
      ":auth, :spki, :transport, :envelope, :host, :version, '', :address, :asked, :expires)",
      {{"id", e.agent.id},
       {"kid", e.agent.auth_kid},
       {"auth", e.agent.auth_spki},
       {"spki", e.agent.transport_spki},
       {"transport", e.agent.transport_kid},
       {"envelope", e.agent.envelope},
       {"host", storable(e.agent.host)},
       {"version", storable(e.agent.version)},
       {"address", storable(e.address)},
       {"asked", e.now},
       {"expires", e.expires}});
  return EnrollOutcome::kPending;
}

std::optional<PendingAgent> pending_in(Sql& sql, const std::string& id, const std::string& auth_kid,
                                       WallTime now) {
  return sql.first(kSelectPendingAgents + "WHERE id = :id AND auth_kid = :kid AND expires > :now" +
                       sql.for_update(),
                   {{"id", id}, {"kid", auth_kid}, {"now", now}}, pending_of);
}

void drop_pending(Sql& sql, const std::string& id) {
  sql.run("DELETE FROM pending_agents WHERE id = :id", {{"id", id}});
}

std::vector<PendingAgent> Store::pending_agents(const std::string& id, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(kSelectPendingAgents +
                       "WHERE expires > :now AND (:id = '' OR id = :id) ORDER BY id, asked, "
                       "auth_kid",
                   {{"now", now}, {"id", id}}, pending_of);
  });
}

std::int64_t Store::reject_pending(const std::string& id, const std::string& auth_kid,
                                   const std::string& reason, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const auto rejected = sql.run(
        "UPDATE pending_agents SET state = 'rejected', reason = :reason "
        "WHERE id = :id AND (:kid = '' OR auth_kid = :kid)",
        {{"reason", reason}, {"id", id}, {"kid", auth_kid}});
    if (rejected > 0) insert_event(sql, event);
    return rejected;
  });
}

}  // namespace keyagent::store
