#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelect =
    "SELECT name, type, version, blind, envelope, agent_names, group_names, changed_by, changed, "
    "removed FROM credentials ";

Credential credential_of(const Row& row) {
  return {.name = row.text(0),
          .type = row.text(1),
          .version = row.number(2),
          .blind = row.flag(3),
          .envelope = row.bytes(4),
          .agents = row.list(5),
          .groups = row.list(6),
          .changed_by = row.text(7),
          .changed = row.time(8),
          .removed = row.flag(9)};
}

}  // namespace

// The row stays locked from the upsert to the commit: two versions at once get two numbers.
std::int64_t Store::put_credential(const Credential& c) {
  return impl_->db.write([&](Sql& sql) -> std::int64_t {
    sql.run(
        "INSERT INTO credentials (name, type, version, blind, envelope, agent_names, group_names, "
        "changed_by, changed, removed) VALUES (:name, :type, 1, :blind, :envelope, :agents, "
        ":groups, :changed_by, :changed, 0) ON CONFLICT (name) DO UPDATE SET "
        "type = excluded.type, version = credentials.version + 1, blind = excluded.blind, "
        "envelope = excluded.envelope, agent_names = excluded.agent_names, "
        "group_names = excluded.group_names, changed_by = excluded.changed_by, "
        "changed = excluded.changed, removed = 0",
        {{"name", c.name},
         {"type", c.type},
         {"blind", c.blind},
         {"envelope", c.envelope},
         {"agents", c.agents},
         {"groups", c.groups},
         {"changed_by", c.changed_by},
         {"changed", c.changed}});
    return sql
        .first("SELECT version FROM credentials WHERE name = :name", {{"name", c.name}},
               [](const Row& row) { return row.number(0); })
        .value();
  });
}

bool Store::assign_credential(const std::string& name, const std::vector<std::string>& agents,
                              const std::vector<std::string>& groups) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "UPDATE credentials SET agent_names = :agents, group_names = :groups "
               "WHERE name = :name AND removed = 0",
               {{"agents", agents}, {"groups", groups}, {"name", name}}) == 1;
  });
}

std::optional<Credential> Store::credential(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelect + "WHERE name = :name", {{"name", name}}, credential_of);
  });
}

std::vector<Credential> Store::credentials() {
  return impl_->db.read([](Sql& sql) {
    return sql.all(kSelect + "WHERE removed = 0 ORDER BY name", {}, credential_of);
  });
}

// The row stays, without its envelope: a credential of the same name goes on with the next version,
// so that no agent takes an old copy for the new one.
bool Store::remove_credential(const std::string& name) {
  return impl_->db.write([&](Sql& sql) {
    const bool removed = sql.run(
                             "UPDATE credentials SET removed = 1, envelope = '' "
                             "WHERE name = :name AND removed = 0",
                             {{"name", name}}) == 1;
    sql.run("DELETE FROM sealed_copies WHERE credential = :name", {{"name", name}});
    return removed;
  });
}

}  // namespace keyagent::store
