// SPDX-License-Identifier: Apache-2.0
// Which replica has the link of which agent.

#include "agent/store/links.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<AgentLink> kLinkColumns[] = {
    column<&AgentLink::agent>("agent").key(),
    column<&AgentLink::replica>("replica"),
    column<&AgentLink::session>("session").fixed(),
    column<&AgentLink::address>("address"),
    column<&AgentLink::tls_version>("tls_version"),
    column<&AgentLink::serial>("serial"),
    column<&AgentLink::since>("since"),
    column<&AgentLink::seen>("seen"),
    column<&AgentLink::news>("news").fixed(),
};
constexpr Table<AgentLink> kLinks{"links", kLinkColumns};

std::string select_status() {
  return "SELECT " + kLinks.list("links.") +
         ", agents.state, agents.auth_kid, agents.next_auth_kid "
         "FROM links JOIN agents ON agents.id = links.agent WHERE links.replica = :replica";
}

LinkStatus status_of(Row& row) {
  return {kLinks(row), row.next<std::string>(), row.next<std::string>(), row.next<std::string>()};
}

std::optional<AgentLink> link_of(Sql& sql, const std::string& agent) {
  return sql.first(kLinks.select() + "WHERE agent = :agent", {{"agent", agent}}, kLinks);
}

}  // namespace

// The first statement has the row's lock until the end: who comes second sees who came first.
EnteredLink Links::open(const AgentLink& link) {
  return db_.write([&](Sql& sql) {
    AgentLink first;
    first.agent = link.agent;
    first.session = 1;
    sql.run(kLinks.insert() + "ON CONFLICT (agent) DO UPDATE SET session = links.session + 1",
            kLinks.all(first));
    EnteredLink entered{link, link_of(sql, link.agent).value()};
    entered.now.session = entered.before.session;
    entered.now.news = entered.before.news;
    sql.run(kLinks.update() + " WHERE agent = :agent", kLinks.changes(link, {"agent"}));
    sql.run("UPDATE agents SET last_seen = :at WHERE id = :id AND last_seen < :at",
            {{"at", link.seen}, {"id", link.agent}});
    return entered;
  });
}

bool Links::record_heartbeat(const std::string& agent, std::int64_t session, WallTime now) {
  return db_.write([&](Sql& sql) {
    const bool alive = sql.run(
                           "UPDATE links SET seen = :now WHERE agent = :agent AND "
                           "session = :session AND replica <> ''",
                           {{"now", now}, {"agent", agent}, {"session", session}}) == 1;
    if (alive)
      sql.run("UPDATE agents SET last_seen = :at WHERE id = :id AND last_seen < :at",
              {{"at", now}, {"id", agent}});
    return alive;
  });
}

void Links::close(const std::string& agent, std::int64_t session) {
  db_.write([&](Sql& sql) {
    sql.run("UPDATE links SET replica = '' WHERE agent = :agent AND session = :session",
            {{"agent", agent}, {"session", session}});
  });
}

void Links::bump_generation(const std::string& agent) {
  db_.write([&](Sql& sql) {
    sql.run("UPDATE links SET news = news + 1 WHERE agent = :agent", {{"agent", agent}});
  });
}

std::optional<AgentLink> Links::find(const std::string& agent) {
  return db_.read([&](Sql& sql) { return link_of(sql, agent); });
}

std::vector<LinkStatus> Links::status(const std::string& replica, const std::string& agent) {
  return db_.read([&](Sql& sql) {
    if (agent.empty()) return sql.all(select_status(), {{"replica", replica}}, status_of);
    return sql.all(select_status() + " AND links.agent = :agent",
                   {{"replica", replica}, {"agent", agent}}, status_of);
  });
}

}  // namespace keyagent::store
