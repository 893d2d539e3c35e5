// SPDX-License-Identifier: Apache-2.0
// How far each agent's audit log was: what shows that it was rewritten, cut or rolled back.

#include "agent/store/audit_checkpoints.h"

#include "agent/base/clock.h"
#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<AuditCheckpoint> kCheckpointColumns[] = {
    column<&AuditCheckpoint::agent>("agent").key(), column<&AuditCheckpoint::enrolled>("enrolled"),
    column<&AuditCheckpoint::size>("size"),         column<&AuditCheckpoint::hash>("hash"),
    column<&AuditCheckpoint::kid>("kid"),           column<&AuditCheckpoint::text>("body"),
    column<&AuditCheckpoint::noted>("noted"),
};
constexpr Table<AuditCheckpoint> kCheckpoints{"audit_checkpoints", kCheckpointColumns};
constexpr Table<AuditCheckpoint> kCheckpointDays{"audit_checkpoint_days", kCheckpointColumns};

std::optional<AuditCheckpoint> checkpoint_of(Sql& sql, const std::string& agent,
                                             WallTime enrolled) {
  return sql.first(kCheckpoints.select() + "WHERE agent = :agent AND enrolled = :enrolled",
                   {{"agent", agent}, {"enrolled", enrolled}}, kCheckpoints);
}

// After `c` was offered: nothing unless it is the newest now.
void keep_for_day(Sql& sql, const AuditCheckpoint& c) {
  const auto added = sql.run(
      "INSERT INTO audit_checkpoint_days (agent, day, enrolled, size, hash, kid, body, noted) "
      "SELECT agent, :day, enrolled, size, hash, kid, body, :noted FROM audit_checkpoints "
      "WHERE agent = :agent AND enrolled = :enrolled AND size = :size AND hash = :hash "
      "ON CONFLICT (agent, day) DO NOTHING",
      {{"day", rfc3339(c.noted).substr(0, 10)},
       {"noted", c.noted},
       {"agent", c.agent},
       {"enrolled", c.enrolled},
       {"size", c.size},
       {"hash", c.hash}});
  if (added == 0) return;
  sql.run(
      "DELETE FROM audit_checkpoint_days WHERE agent = :agent AND day NOT IN "
      "(SELECT day FROM audit_checkpoint_days WHERE agent = :same ORDER BY day DESC LIMIT " +
          std::to_string(kMaxCheckpointDays) + ")",
      {{"agent", c.agent}, {"same", c.agent}});
}

}  // namespace

// One statement decides and writes: two sessions of one agent cannot lower it, and one of an
// earlier enrollment cannot write.
std::optional<AuditCheckpoint> AuditCheckpoints::keep(const AuditCheckpoint& c) {
  return db_.write([&](Sql& sql) -> std::optional<AuditCheckpoint> {
    const std::string current =
        "WHERE EXISTS (SELECT 1 FROM agents WHERE id = :agent AND enrolled = :enrolled "
        "AND state = 'trusted'" +
        std::string(sql.for_share()) + ") ";
    const Bounds agent{{"agent", c.agent}, {"enrolled", c.enrolled}};
    sql.run("INSERT INTO audit_checkpoints (" + kCheckpoints.list() + ") SELECT " +
                kCheckpoints.list(":") + " " + current + "ON CONFLICT (agent) DO UPDATE SET " +
                kCheckpoints.excluded() +
                " WHERE audit_checkpoints.enrolled <> excluded.enrolled "
                "OR audit_checkpoints.size < excluded.size",
            kCheckpoints.all(c));
    if (!sql.exists("SELECT 1 " + current, agent)) return std::nullopt;
    keep_for_day(sql, c);
    return checkpoint_of(sql, c.agent, c.enrolled);
  });
}

std::optional<AuditCheckpoint> AuditCheckpoints::find(const std::string& agent, WallTime enrolled) {
  return db_.read([&](Sql& sql) { return checkpoint_of(sql, agent, enrolled); });
}

std::vector<AuditCheckpoint> AuditCheckpoints::days(const std::string& agent) {
  return db_.read([&](Sql& sql) {
    return sql.all(kCheckpointDays.select() + "WHERE agent = :agent ORDER BY day DESC",
                   {{"agent", agent}}, kCheckpointDays);
  });
}

bool AuditCheckpoints::forget(const AuditCheckpoint& c, const Event& event) {
  return db_.write([&](Sql& sql) {
    if (sql.run(
            "DELETE FROM audit_checkpoints WHERE agent = :agent AND enrolled = :enrolled "
            "AND size = :size AND hash = :hash",
            {{"agent", c.agent}, {"enrolled", c.enrolled}, {"size", c.size}, {"hash", c.hash}}) ==
        0)
      return false;
    insert_event(sql, event);
    return true;
  });
}

}  // namespace keyagent::store
