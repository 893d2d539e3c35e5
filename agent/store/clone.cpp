// SPDX-License-Identifier: Apache-2.0
// Copies an instance's data for another instance. The tables are listed explicitly, so that a new
// table is not copied unless it is added here.

#include "agent/store/clone.h"

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/store/data_tables.h"
#include "agent/store/schema.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr int kPage = 500;

// A table as it is copied: whatever its columns hold. Its key comes first.
struct CopiedTable {
  template <class RowType>
  CopiedTable(const Table<RowType>& table)  // NOLINT(google-explicit-constructor): is that table
      : name(table.name()), columns(table.columns()) {
    for (const auto& each : columns)
      if (each.role == ColumnRole::kKey) keys.push_back(each);
  }
  const char* name;
  std::vector<ColumnInfo> columns, keys;
};

// Page after page: PostgreSQL's client keeps the whole result of a query.
std::int64_t copy(Sql& from, Sql& to, const CopiedTable& table) {
  const std::string select = "SELECT " + list_of(table.columns) + " FROM " + table.name +
                             " WHERE (" + list_of(table.keys) + ") > (" + list_of(table.keys, ":") +
                             ") ORDER BY " + list_of(table.keys) + " LIMIT " +
                             std::to_string(kPage);
  const std::string insert = std::string("INSERT INTO ") + table.name + " (" +
                             list_of(table.columns) + ") VALUES (" + list_of(table.columns, ":") +
                             ")";
  Bounds last;
  for (const auto& each : table.keys) last.push_back({each.name, ""});
  for (std::int64_t count = 0;;) {
    const auto rows = from.all(select, last, [&](Row& row) {
      Bounds bounds;
      for (const auto& each : table.columns)
        bounds.push_back({each.name, each.is_text ? Value(row.next<std::string>())
                                                  : Value(row.next<std::int64_t>())});
      return bounds;
    });
    if (rows.empty()) return count;
    for (const auto& row : rows) to.run(insert, row);
    count += static_cast<std::int64_t>(rows.size());
    last.assign(rows.back().begin(),
                rows.back().begin() + static_cast<std::ptrdiff_t>(table.keys.size()));
  }
}

void require_empty(Sql& sql, const CopiedTable& table) {
  if (sql.exists(std::string("SELECT 1 FROM ") + table.name + " LIMIT 1"))
    throw Error(Code::kExists, std::string("this store has ") + table.name +
                                   " already; clone into an empty store");
}

// Whose values are not records: this program makes records of them at its start.
void require_moved(Sql& from) {
  if (from.exists("SELECT 1 FROM credentials WHERE envelope <> '' LIMIT 1"))
    throw Error(Code::kConfiguration,
                "the source store has credentials without a data key: start its instance once (its "
                "agent's policy must allow data.*)");
}

// An instance that was started and not used has the specification of its credentials, without keys.
void drop_unused(Sql& sql) {
  sql.run("DELETE FROM specifications WHERE name = :name", {{"name", kCredentialData}});
}

// Agents, and the groups that they are in, are the source's.
void assign_to_nobody(Sql& sql) {
  sql.run("UPDATE credentials SET agent_names = :none, group_names = :none", {{"none", Names{}}});
}

void require_same_schema(Database& from) {
  int found = 0;
  try {
    found = from.read(schema_version);
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    throw Error(Code::kIntegrity,
                std::string("the source is not a keyagent store: ") + error.what());
  }
  const auto known = static_cast<int>(migrations().size());
  if (found != known)
    throw Error(Code::kIntegrity, "the source store has schema " + std::to_string(found) +
                                      ", this program writes " + std::to_string(known) +
                                      ": use the same program version for both");
}

}  // namespace

CloneCounts clone_into(Database& database, const CloneOrder& order,
                       const std::function<Event(CloneCounts)>& event) {
  const Place place(order.url);
  if (place.engine == Engine::kSqlite && !std::filesystem::exists(place.path))
    throw Error(Code::kConfiguration, "there is no store " + place.path);
  Database from({order.url, 1});
  require_same_schema(from);
  return database.write([&](Sql& to) {
    require_empty(to, kRecords);
    require_empty(to, kCredentials);
    require_empty(to, kDataKeys);
    drop_unused(to);
    require_empty(to, kSpecifications);
    if (order.users) require_empty(to, kUsers);
    const auto counts = from.snapshot([&](Sql& sql) {
      require_moved(sql);
      return CloneCounts{copy(sql, to, kSpecifications), copy(sql, to, kDataKeys),
                         copy(sql, to, kRecords), copy(sql, to, kCredentials),
                         order.users ? copy(sql, to, kUsers) : 0};
    });
    assign_to_nobody(to);
    to.run("INSERT INTO settings (name, value) VALUES (:name, :source)",
           {{"name", kClonedFrom}, {"source", order.source}});
    insert_event(to, event(counts));
    return counts;
  });
}

}  // namespace keyagent::store
