// SPDX-License-Identifier: Apache-2.0
#include "agent/base/error.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectAgents =
    "SELECT id, state, auth_spki, transport_spki, auth_kid, transport_kid, "
    "previous_transport_kid, envelope, host, version, group_names, approved_by, reason, enrolled, "
    "changed, last_seen, revision, next_auth_spki, next_auth_kid, next_transport_spki, "
    "next_transport_kid, next_envelope FROM agents ";

Agent agent_of(const Row& row) {
  return {.id = row.text(0),
          .state = row.text(1),
          .auth_spki = row.bytes(2),
          .transport_spki = row.bytes(3),
          .auth_kid = row.text(4),
          .transport_kid = row.text(5),
          .previous_transport_kid = row.text(6),
          .envelope = row.text(7),
          .next_auth_spki = row.bytes(17),
          .next_transport_spki = row.bytes(19),
          .next_auth_kid = row.text(18),
          .next_transport_kid = row.text(20),
          .next_envelope = row.text(21),
          .host = row.text(8),
          .version = row.text(9),
          .groups = row.list(10),
          .approved_by = row.text(11),
          .reason = row.text(12),
          .enrolled = row.time(13),
          .changed = row.time(14),
          .last_seen = row.time(15),
          .revision = row.number(16)};
}

// What both statements write, and find the agent by.
Bounds bounds_of(const Agent& a) {
  return {{"id", a.id},
          {"state", a.state},
          {"auth_spki", a.auth_spki},
          {"transport_spki", a.transport_spki},
          {"auth_kid", a.auth_kid},
          {"transport_kid", a.transport_kid},
          {"previous", a.previous_transport_kid},
          {"envelope", a.envelope},
          {"next_auth_spki", a.next_auth_spki},
          {"next_auth_kid", a.next_auth_kid},
          {"next_transport_spki", a.next_transport_spki},
          {"next_transport_kid", a.next_transport_kid},
          {"next_envelope", a.next_envelope},
          {"host", storable(a.host)},
          {"version", storable(a.version)},
          {"groups", a.groups},
          {"approved_by", a.approved_by},
          {"reason", a.reason},
          {"enrolled", a.enrolled},
          {"changed", a.changed},
          {"revision", a.revision}};
}

}  // namespace

bool insert_agent(Sql& sql, const Agent& a) {
  auto bounds = bounds_of(a);
  bounds.push_back({"last_seen", a.last_seen});
  return sql.run(
             "INSERT INTO agents (id, state, auth_spki, transport_spki, auth_kid, "
             "transport_kid, previous_transport_kid, envelope, host, version, group_names, "
             "approved_by, reason, enrolled, changed, last_seen, revision, next_auth_spki, "
             "next_auth_kid, next_transport_spki, next_transport_kid, next_envelope) "
             "VALUES (:id, :state, :auth_spki, :transport_spki, :auth_kid, :transport_kid, "
             ":previous, :envelope, :host, :version, :groups, :approved_by, :reason, :enrolled, "
             ":changed, :last_seen, :revision, :next_auth_spki, :next_auth_kid, "
             ":next_transport_spki, :next_transport_kid, :next_envelope) "
             "ON CONFLICT DO NOTHING",
             bounds) == 1;
}

bool Store::add_agent(const Agent& a) {
  return impl_->db.write([&](Sql& sql) { return insert_agent(sql, a); });
}

std::optional<Agent> agent_in(Sql& sql, const std::string& id, const char* lock) {
  return sql.first(kSelectAgents + "WHERE id = :id" + lock, {{"id", id}}, agent_of);
}

std::optional<Agent> agent_with_key(Sql& sql, const std::string& auth_kid) {
  return sql.first(kSelectAgents + "WHERE auth_kid = :kid AND auth_kid <> ''", {{"kid", auth_kid}},
                   agent_of);
}

bool is_trusted_with(Sql& sql, const std::string& id, const std::string& auth_kid) {
  const auto agent = agent_in(sql, id, sql.for_share());
  return agent && agent->state == "trusted" && !auth_kid.empty() &&
         (agent->auth_kid == auth_kid || agent->next_auth_kid == auth_kid);
}

std::optional<Agent> Store::agent(const std::string& id) {
  return impl_->db.read([&](Sql& sql) { return agent_in(sql, id, ""); });
}

std::optional<Agent> Store::agent_by_auth_kid(const std::string& kid) {
  return impl_->db.read([&](Sql& sql) { return agent_with_key(sql, kid); });
}

std::vector<Agent> Store::agents() {
  return impl_->db.read(
      [](Sql& sql) { return sql.all(kSelectAgents + "ORDER BY id", {}, agent_of); });
}

bool write_agent(Sql& sql, const Agent& a) {
  return sql.run(
             "UPDATE agents SET state = :state, auth_spki = :auth_spki, "
             "transport_spki = :transport_spki, auth_kid = :auth_kid, "
             "transport_kid = :transport_kid, previous_transport_kid = :previous, "
             "envelope = :envelope, host = :host, version = :version, group_names = :groups, "
             "approved_by = :approved_by, reason = :reason, enrolled = :enrolled, "
             "changed = :changed, next_auth_spki = :next_auth_spki, "
             "next_auth_kid = :next_auth_kid, next_transport_spki = :next_transport_spki, "
             "next_transport_kid = :next_transport_kid, next_envelope = :next_envelope, "
             "revision = revision + 1 "
             "WHERE id = :id AND revision = :revision",
             bounds_of(a)) == 1;
}

bool Store::update_agent(const Agent& a, const AgentChange& with) {
  return impl_->db.write([&](Sql& sql) {
    if (with.challenge && !move_challenge_in(sql, *with.challenge, with.challenge_from))
      return false;
    if (!write_agent(sql, a)) {
      if (with.challenge) throw Error(Code::kBusy, "the agent was changed concurrently");
      return false;
    }
    if (!with.revoke.empty()) revoke_certificates(sql, a.id, a.changed, with.revoke);
    if (with.forget_session)
      sql.run("DELETE FROM agent_sessions WHERE agent = :agent", {{"agent", a.id}});
    if (with.event) insert_event(sql, *with.event);
    return true;
  });
}

void Store::seen(const std::string& agent_id, WallTime when) {
  impl_->db.write([&](Sql& sql) {
    sql.run("UPDATE agents SET last_seen = :at WHERE id = :id AND last_seen < :at",
            {{"at", when}, {"id", agent_id}});
  });
}

}  // namespace keyagent::store
