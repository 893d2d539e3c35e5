// SPDX-License-Identifier: Apache-2.0
#include "agent/store/agents.h"

#include "agent/base/error.h"
#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Agent> kAgentColumns[] = {
    column<&Agent::id>("id").key(),
    column<&Agent::state>("state"),
    column<&Agent::auth_spki>("auth_spki"),
    column<&Agent::transport_spki>("transport_spki"),
    column<&Agent::auth_kid>("auth_kid"),
    column<&Agent::transport_kid>("transport_kid"),
    column<&Agent::previous_transport_kid>("previous_transport_kid"),
    column<&Agent::envelope>("envelope"),
    column<&Agent::next_auth_spki>("next_auth_spki"),
    column<&Agent::next_auth_kid>("next_auth_kid"),
    column<&Agent::next_transport_spki>("next_transport_spki"),
    column<&Agent::next_transport_kid>("next_transport_kid"),
    column<&Agent::next_envelope>("next_envelope"),
    escaped_column<&Agent::host>("host"),
    escaped_column<&Agent::version>("version"),
    column<&Agent::groups>("group_names"),
    column<&Agent::approved_by>("approved_by"),
    column<&Agent::reason>("reason"),
    column<&Agent::enrolled>("enrolled"),
    column<&Agent::changed>("changed"),
    column<&Agent::last_seen>("last_seen").fixed(),
    column<&Agent::revision>("revision").fixed(),
};
constexpr Table<Agent> kAgents{"agents", kAgentColumns};

}  // namespace

bool insert_agent(Sql& sql, const Agent& a) {
  return sql.run(kAgents.insert() + "ON CONFLICT DO NOTHING", kAgents.all(a)) == 1;
}

bool Agents::add(const Agent& a) {
  return db_.write([&](Sql& sql) { return insert_agent(sql, a); });
}

std::optional<Agent> agent_in(Sql& sql, const std::string& id, const char* lock) {
  return sql.first(kAgents.select() + "WHERE id = :id" + lock, {{"id", id}}, kAgents);
}

std::optional<Agent> agent_with_key(Sql& sql, const std::string& auth_kid) {
  return sql.first(kAgents.select() + "WHERE auth_kid = :kid AND auth_kid <> ''",
                   {{"kid", auth_kid}}, kAgents);
}

bool is_trusted_with(Sql& sql, const std::string& id, const std::string& auth_kid) {
  const auto agent = agent_in(sql, id, sql.for_share());
  return agent && agent->state == "trusted" && !auth_kid.empty() &&
         (agent->auth_kid == auth_kid || agent->next_auth_kid == auth_kid);
}

std::optional<Agent> Agents::find(const std::string& id) {
  return db_.read([&](Sql& sql) { return agent_in(sql, id, ""); });
}

std::optional<Agent> Agents::find_by_auth_kid(const std::string& kid) {
  return db_.read([&](Sql& sql) { return agent_with_key(sql, kid); });
}

std::vector<Agent> Agents::all() {
  return db_.read([](Sql& sql) { return sql.all(kAgents.select() + "ORDER BY id", {}, kAgents); });
}

bool write_agent(Sql& sql, const Agent& a) {
  return sql.run(
             kAgents.update() + ", revision = revision + 1 WHERE id = :id AND revision = :revision",
             kAgents.changes(a, {"id", "revision"})) == 1;
}

bool Agents::update(const Agent& a, const AgentChange& with) {
  return db_.write([&](Sql& sql) {
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

std::int64_t Agents::count() {
  return db_.read([](Sql& sql) { return sql.count("SELECT count(*) FROM agents"); });
}

void Agents::mark_seen(const std::string& agent_id, WallTime when) {
  db_.write([&](Sql& sql) {
    sql.run("UPDATE agents SET last_seen = :at WHERE id = :id AND last_seen < :at",
            {{"at", when}, {"id", agent_id}});
  });
}

}  // namespace keyagent::store
