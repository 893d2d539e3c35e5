// SPDX-License-Identifier: Apache-2.0
// Which replica has the link of which agent.

#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kColumns =
    "links.agent, links.replica, links.session, links.address, links.tls_version, links.serial, "
    "links.since, links.seen, links.news";
const std::string kStandings =
    "SELECT " + kColumns +
    ", agents.state, agents.auth_kid, agents.next_auth_kid "
    "FROM links JOIN agents ON agents.id = links.agent WHERE links.replica = :replica";

AgentLink link_of(const Row& row) {
  return {.agent = row.text(0),
          .replica = row.text(1),
          .session = row.number(2),
          .address = row.text(3),
          .tls_version = row.text(4),
          .serial = row.text(5),
          .since = row.time(6),
          .seen = row.time(7),
          .news = row.number(8)};
}

LinkStatus standing_of(const Row& row) {
  return {link_of(row), row.text(9), row.text(10), row.text(11)};
}

std::optional<AgentLink> find(Sql& sql, const std::string& agent) {
  return sql.first("SELECT " + kColumns + " FROM links WHERE agent = :agent", {{"agent", agent}},
                   link_of);
}

}  // namespace

// The first statement has the row's lock until the end: who comes second sees who came first.
EnteredLink Store::open_link(const AgentLink& link) {
  return impl_->db.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO links (agent, replica, session, address, tls_version, serial, since, seen, "
        "news) VALUES (:agent, '', 1, '', '', '', 0, 0, 0) "
        "ON CONFLICT (agent) DO UPDATE SET session = links.session + 1",
        {{"agent", link.agent}});
    EnteredLink entered{link, find(sql, link.agent).value()};
    entered.now.session = entered.before.session;
    entered.now.news = entered.before.news;
    sql.run(
        "UPDATE links SET replica = :replica, address = :address, tls_version = :tls_version, "
        "serial = :serial, since = :since, seen = :seen WHERE agent = :agent",
        {{"replica", link.replica},
         {"address", link.address},
         {"tls_version", link.tls_version},
         {"serial", link.serial},
         {"since", link.since},
         {"seen", link.seen},
         {"agent", link.agent}});
    sql.run("UPDATE agents SET last_seen = :at WHERE id = :id AND last_seen < :at",
            {{"at", link.seen}, {"id", link.agent}});
    return entered;
  });
}

bool Store::record_heartbeat(const std::string& agent, std::int64_t session, WallTime now) {
  return impl_->db.write([&](Sql& sql) {
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

void Store::close_link(const std::string& agent, std::int64_t session) {
  impl_->db.write([&](Sql& sql) {
    sql.run("UPDATE links SET replica = '' WHERE agent = :agent AND session = :session",
            {{"agent", agent}, {"session", session}});
  });
}

void Store::bump_generation(const std::string& agent) {
  impl_->db.write([&](Sql& sql) {
    sql.run("UPDATE links SET news = news + 1 WHERE agent = :agent", {{"agent", agent}});
  });
}

std::optional<AgentLink> Store::link(const std::string& agent) {
  return impl_->db.read([&](Sql& sql) { return find(sql, agent); });
}

std::vector<LinkStatus> Store::link_status(const std::string& replica, const std::string& agent) {
  return impl_->db.read([&](Sql& sql) {
    if (agent.empty()) return sql.all(kStandings, {{"replica", replica}}, standing_of);
    return sql.all(kStandings + " AND links.agent = :agent",
                   {{"replica", replica}, {"agent", agent}}, standing_of);
  });
}

}  // namespace keyagent::store
