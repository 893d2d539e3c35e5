// SPDX-License-Identifier: Apache-2.0
// Detects a store restored from a backup: its last event is older than one that it has sent.

#include "agent/store/restoration.h"

#include <algorithm>
#include <sstream>

#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr const char* kSetting = "restored";

// No one numbers an event until the transaction ends.
void hold_events(Sql& sql) {
  sql.run("UPDATE counters SET value = value WHERE name = 'events'", {});
}

std::optional<Restored> restored_in(Sql& sql) {
  const auto text = sql.first<std::string>("SELECT value FROM settings WHERE name = :name",
                                           {{"name", std::string(kSetting)}});
  if (!text) return std::nullopt;
  Restored out;
  std::string since;
  std::istringstream words(*text);
  if (!(words >> out.epoch >> since >> out.agent)) return std::nullopt;
  out.since = parse_rfc3339(since);
  return out;
}

}  // namespace

bool is_restored(Sql& sql) {
  return restored_in(sql).has_value();
}

std::optional<Restored> Restoration::find() {
  return db_.read(restored_in);
}

bool Restoration::note(const Restored& seen, const Event& event) {
  return db_.write([&](Sql& sql) {
    hold_events(sql);
    const auto known = restored_in(sql);
    if (seen.epoch <= (known ? known->epoch : last_event(sql))) return false;
    const auto& first = known ? known->since : seen.since;
    sql.run(
        "INSERT INTO settings (name, value) VALUES (:name, :value) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {{"name", std::string(kSetting)},
         {"value", std::to_string(seen.epoch) + " " + rfc3339(first) + " " + seen.agent}});
    if (!known) insert_event(sql, event);
    return !known;
  });
}

bool Restoration::accept(const Event& event, std::int64_t epoch) {
  return db_.write([&](Sql& sql) {
    hold_events(sql);
    const auto known = restored_in(sql);
    if (!known || known->epoch != epoch) return false;
    sql.run("UPDATE counters SET value = :value WHERE name = 'events'",
            {{"value", std::max<std::int64_t>(known->epoch, last_event(sql))}});
    sql.run("DELETE FROM settings WHERE name = :name", {{"name", std::string(kSetting)}});
    // Agents continued since the backup: accept their next session values.
    sql.run("DELETE FROM agent_sessions", {});
    // Those that were used after the backup are unused again.
    sql.run("DELETE FROM enrolment_tokens WHERE used_by = ''", {});
    insert_event(sql, event);
    return true;
  });
}

}  // namespace keyagent::store
