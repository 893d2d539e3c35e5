// SPDX-License-Identifier: Apache-2.0
#include "agent/store/credentials.h"

#include "agent/store/data_tables.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

std::string select_credentials() {
  return "SELECT " + kCredentials.list("c.") +
         ", coalesce(r.kid, '') FROM credentials c LEFT JOIN records r "
         "ON r.specification = '" +
         kCredentialData + "' AND r.id = c.name ";
}

Credential credential_of(Row& row) {
  auto credential = kCredentials(row);
  credential.kid = row.next<std::string>();
  return credential;
}

// The row of a value stays, as that of the credential: empty when there is none.
void write_value(Sql& sql, const std::string& name, std::int64_t version, const Record* value) {
  Record written = value != nullptr ? *value : Record{};
  written.specification = kCredentialData;
  written.id = name;
  written.version = version;
  sql.run(kRecords.insert() + "ON CONFLICT (specification, id) DO UPDATE SET " +
              kRecords.excluded() + ", version = excluded.version",
          kRecords.all(written));
}

}  // namespace

// The row stays locked from the upsert to the commit: two versions at once get two numbers.
RecordPut Credentials::put(const Credential& c, const Record* value) {
  return db_.write([&](Sql& sql) -> RecordPut {
    if (value != nullptr && !takes_records(sql, value->kid)) return {RecordPut::Outcome::kClosed};
    const auto version_now = [&] {
      return sql
          .first<std::int64_t>("SELECT version FROM credentials WHERE name = :name",
                               {{"name", c.name}})
          .value_or(0);
    };
    if (const auto now = version_now(); c.version != 0 && c.version != now + 1)
      return {RecordPut::Outcome::kMoved, now};
    auto written = c;
    written.version = 1;
    written.blind = value == nullptr;
    written.envelope.clear();
    written.removed = false;
    sql.run(kCredentials.insert() + "ON CONFLICT (name) DO UPDATE SET " + kCredentials.excluded() +
                ", version = credentials.version + 1",
            kCredentials.all(written));
    const auto version = version_now();
    // A concurrent change was made between the SELECT and the upsert: roll back.
    if (c.version != 0 && c.version != version)
      throw Error(Code::kBusy, "the credential " + c.name + " is being changed; try again");
    write_value(sql, c.name, version, value);
    return {RecordPut::Outcome::kDone, version};
  });
}

RecordPut Credentials::move_value(const Credential& c, const Record& value) {
  return db_.write([&](Sql& sql) -> RecordPut {
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

bool Credentials::assign(const std::string& name, const std::vector<std::string>& agents,
                         const std::vector<std::string>& groups) {
  return db_.write([&](Sql& sql) {
    return sql.run(
               "UPDATE credentials SET agent_names = :agents, group_names = :groups "
               "WHERE name = :name AND removed = 0",
               {{"agents", agents}, {"groups", groups}, {"name", name}}) == 1;
  });
}

std::optional<Credential> Credentials::find(const std::string& name) {
  return db_.read([&](Sql& sql) {
    return sql.first(select_credentials() + "WHERE c.name = :name", {{"name", name}},
                     credential_of);
  });
}

std::vector<Credential> Credentials::all() {
  return db_.read([](Sql& sql) {
    return sql.all(select_credentials() + "WHERE c.removed = 0 ORDER BY c.name", {}, credential_of);
  });
}

// The row stays, without a value: a credential of the same name continues with the next version,
// so that no agent takes an old copy for the new one.
bool Credentials::remove(const std::string& name) {
  return db_.write([&](Sql& sql) {
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
