// SPDX-License-Identifier: Apache-2.0
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectCredentials =
    "SELECT c.name, c.type, c.version, c.blind, coalesce(r.kid, ''), c.envelope, c.agent_names, "
    "c.group_names, c.changed_by, c.changed, c.removed FROM credentials c LEFT JOIN records r "
    "ON r.specification = '" +
    std::string(kCredentialData) + "' AND r.id = c.name ";

Credential credential_of(const Row& row) {
  return {.name = row.text(0),
          .type = row.text(1),
          .version = row.number(2),
          .blind = row.flag(3),
          .kid = row.text(4),
          .envelope = row.bytes(5),
          .agents = row.list(6),
          .groups = row.list(7),
          .changed_by = row.text(8),
          .changed = row.time(9),
          .removed = row.flag(10)};
}

// The row of a value stays, as that of the credential: empty when there is none.
void write_value(Sql& sql, const std::string& name, std::int64_t version, const Record* value) {
  const Record written = value != nullptr ? *value : Record{};
  sql.run(
      "INSERT INTO records (specification, id, kid, version, envelope, changed_by, changed) "
      "VALUES (:specification, :id, :kid, :version, :envelope, :changed_by, :changed) "
      "ON CONFLICT (specification, id) DO UPDATE SET kid = excluded.kid, "
      "version = excluded.version, envelope = excluded.envelope, "
      "changed_by = excluded.changed_by, changed = excluded.changed",
      {{"specification", kCredentialData},
       {"id", name},
       {"kid", written.kid},
       {"version", version},
       {"envelope", written.envelope},
       {"changed_by", written.changed_by},
       {"changed", written.changed}});
}

}  // namespace

// The row stays locked from the upsert to the commit: two versions at once get two numbers.
RecordPut Store::put_credential(const Credential& c, const Record* value) {
  return impl_->db.write([&](Sql& sql) -> RecordPut {
    if (value != nullptr && !takes_records(sql, value->kid)) return {RecordPut::Outcome::kClosed};
    const auto version_now = [&] {
      return sql
          .first("SELECT version FROM credentials WHERE name = :name", {{"name", c.name}},
                 [](const Row& row) { return row.number(0); })
          .value_or(0);
    };
    if (const auto now = version_now(); c.version != 0 && c.version != now + 1)
      return {RecordPut::Outcome::kMoved, now};
    sql.run(
        "INSERT INTO credentials (name, type, version, blind, envelope, agent_names, group_names, "
        "changed_by, changed, removed) VALUES (:name, :type, 1, :blind, '', :agents, :groups, "
        ":changed_by, :changed, 0) ON CONFLICT (name) DO UPDATE SET type = excluded.type, "
        "version = credentials.version + 1, blind = excluded.blind, envelope = '', "
        "agent_names = excluded.agent_names, group_names = excluded.group_names, "
        "changed_by = excluded.changed_by, changed = excluded.changed, removed = 0",
        {{"name", c.name},
         {"type", c.type},
         {"blind", value == nullptr},
         {"agents", c.agents},
         {"groups", c.groups},
         {"changed_by", c.changed_by},
         {"changed", c.changed}});
    const auto version = version_now();
    // Between the look and the upsert someone else was faster: nothing of this stays.
    if (c.version != 0 && c.version != version)
      throw Error(Code::kBusy, "the credential " + c.name + " is being changed; try again");
    write_value(sql, c.name, version, value);
    return {RecordPut::Outcome::kDone, version};
  });
}

RecordPut Store::move_credential(const Credential& c, const Record& value) {
  return impl_->db.write([&](Sql& sql) -> RecordPut {
    if (!takes_records(sql, value.kid)) return {RecordPut::Outcome::kClosed};
    const bool moved = sql.run(
                           "UPDATE credentials SET envelope = '' WHERE name = :name "
                           "AND version = :version AND removed = 0 AND envelope <> ''",
                           {{"name", c.name}, {"version", c.version}}) == 1;
    if (!moved) return {RecordPut::Outcome::kConflict};
    write_value(sql, c.name, c.version, &value);
    return {RecordPut::Outcome::kDone, c.version};
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
    return sql.first(kSelectCredentials + "WHERE c.name = :name", {{"name", name}}, credential_of);
  });
}

std::vector<Credential> Store::credentials() {
  return impl_->db.read([](Sql& sql) {
    return sql.all(kSelectCredentials + "WHERE c.removed = 0 ORDER BY c.name", {}, credential_of);
  });
}

// The row stays, without a value: a credential of the same name continues with the next version,
// so that no agent takes an old copy for the new one.
bool Store::remove_credential(const std::string& name) {
  return impl_->db.write([&](Sql& sql) {
    const bool removed = sql.run(
                             "UPDATE credentials SET removed = 1, envelope = '' "
                             "WHERE name = :name AND removed = 0",
                             {{"name", name}}) == 1;
    sql.run(
        "UPDATE records SET kid = '', envelope = '' WHERE specification = :specification "
        "AND id = :name",
        {{"specification", kCredentialData}, {"name", name}});
    sql.run("DELETE FROM sealed_copies WHERE credential = :name", {{"name", name}});
    return removed;
  });
}

}  // namespace keyagent::store
