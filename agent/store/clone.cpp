// SPDX-License-Identifier: Apache-2.0
// A copy of an instance's data, for another instance: by a list of what it has, so that a table
// that is new is left out until someone thinks of it.

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/store/schema.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

constexpr int kPage = 500;
constexpr const char* kCloneSetting = "cloned-from";

struct Table {
  const char* name;
  std::vector<std::string> texts;  // the first `keys` of them are the primary key
  std::size_t keys;
  std::vector<std::string> numbers;
};

const Table kSpecifications{"specifications",
                            {"name", "access", "created_by", "changed_by"},
                            1,
                            {"created", "changed", "revision"}};
const Table kDataKeys{"data_keys", {"kid", "specification", "source"}, 1, {"noted", "closed"}};
const Table kRecordTables{
    "records", {"specification", "id", "kid", "envelope", "changed_by"}, 2, {"version", "changed"}};
const Table kCredentials{"credentials",
                         {"name", "type", "envelope", "agent_names", "group_names", "changed_by"},
                         1,
                         {"version", "blind", "changed", "removed"}};
const Table kUsers{"users", {"name", "role", "password", "spki_sha256"}, 1, {"disabled"}};

// Each with `before` in front, in one list.
std::string listed(const std::vector<std::string>& names, const std::string& before = {}) {
  std::string out;
  for (const auto& each : names) out += (out.empty() ? "" : ", ") + before + each;
  return out;
}

// Page after page: PostgreSQL's client keeps the whole result of a query.
std::int64_t copy(Sql& from, Sql& to, const Table& table) {
  std::vector<std::string> columns = table.texts;
  columns.insert(columns.end(), table.numbers.begin(), table.numbers.end());
  const std::vector<std::string> key(table.texts.begin(),
                                     table.texts.begin() + static_cast<std::ptrdiff_t>(table.keys));
  const std::string select = "SELECT " + listed(columns) + " FROM " + table.name + " WHERE (" +
                             listed(key) + ") > (" + listed(key, ":") + ") ORDER BY " +
                             listed(key) + " LIMIT " + std::to_string(kPage);
  const std::string insert = std::string("INSERT INTO ") + table.name + " (" + listed(columns) +
                             ") VALUES (" + listed(columns, ":") + ")";
  Bounds last;
  for (const auto& each : key) last.push_back({each.c_str(), ""});
  for (std::int64_t count = 0;;) {
    const auto rows = from.all(select, last, [&](const Row& row) {
      Bounds bounds;
      for (std::size_t i = 0; i < columns.size(); ++i)
        bounds.push_back({columns[i].c_str(),
                          i < table.texts.size() ? Value(row.text(i)) : Value(row.number(i))});
      return bounds;
    });
    if (rows.empty()) return count;
    for (const auto& row : rows) to.run(insert, row);
    count += static_cast<std::int64_t>(rows.size());
    last.assign(rows.back().begin(), rows.back().begin() + static_cast<std::ptrdiff_t>(table.keys));
  }
}

void require_empty(Sql& sql, const Table& table) {
  if (sql.first(std::string("SELECT 1 FROM ") + table.name + " LIMIT 1", {},
                [](const Row&) { return true; }))
    throw Error(Code::kExists, std::string("this store has ") + table.name +
                                   " already; clone into an empty store");
}

// Whose values are not records: this program makes records of them at its start.
void require_moved(Sql& from) {
  if (from.first("SELECT 1 FROM credentials WHERE envelope <> '' LIMIT 1", {},
                 [](const Row&) { return true; }))
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

CloneCounts Store::clone(const CloneOrder& order, const std::function<Event(CloneCounts)>& event) {
  const Place place(order.url);
  if (place.engine == Engine::kSqlite && !std::filesystem::exists(place.path))
    throw Error(Code::kConfiguration, "there is no store " + place.path);
  Database from({order.url, 1});
  require_same_schema(from);
  return impl_->db.write([&](Sql& to) {
    for (const auto* table : {&kRecordTables, &kCredentials, &kDataKeys}) require_empty(to, *table);
    drop_unused(to);
    require_empty(to, kSpecifications);
    if (order.users) require_empty(to, kUsers);
    const auto counts = from.snapshot([&](Sql& sql) {
      require_moved(sql);
      return CloneCounts{copy(sql, to, kSpecifications), copy(sql, to, kDataKeys),
                         copy(sql, to, kRecordTables), copy(sql, to, kCredentials),
                         order.users ? copy(sql, to, kUsers) : 0};
    });
    assign_to_nobody(to);
    to.run("INSERT INTO settings (name, value) VALUES (:name, :source)",
           {{"name", kCloneSetting}, {"source", order.source}});
    insert_event(to, event(counts));
    return counts;
  });
}

std::optional<std::string> Store::cloned_from() {
  return setting(kCloneSetting);
}

}  // namespace keyagent::store
