// SPDX-License-Identifier: Apache-2.0
// How far each agent's audit log was: what shows that it was rewritten, cut or rolled back.

#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

AuditCheckpoint checkpoint_of(const Row& row) {
  return {.agent = row.text(0),
          .enrolled = row.time(1),
          .size = row.number(2),
          .hash = row.text(3),
          .kid = row.text(4),
          .text = row.text(5),
          .noted = row.time(6)};
}

std::optional<AuditCheckpoint> find(Sql& sql, const std::string& agent, WallTime enrolled) {
  return sql.first(
      "SELECT agent, enrolled, size, hash, kid, body, noted FROM audit_checkpoints "
      "WHERE agent = :agent AND enrolled = :enrolled",
      {{"agent", agent}, {"enrolled", enrolled}}, checkpoint_of);
}

}  // namespace

// One statement decides and writes: two sessions of one agent cannot lower it, and one of an
// earlier enrollment cannot write.
std::optional<AuditCheckpoint> Store::keep_audit_checkpoint(const AuditCheckpoint& c) {
  return impl_->db.write([&](Sql& sql) -> std::optional<AuditCheckpoint> {
    const std::string current =
        "WHERE EXISTS (SELECT 1 FROM agents WHERE id = :agent AND enrolled = :enrolled "
        "AND state = 'trusted'" +
        std::string(sql.for_share()) + ") ";
    const Bounds agent{{"agent", c.agent}, {"enrolled", c.enrolled}};
    sql.run(
        "INSERT INTO audit_checkpoints (agent, enrolled, size, hash, kid, body, noted) "
        "SELECT :agent, :enrolled, :size, :hash, :kid, :body, :noted " +
            current +
            "ON CONFLICT (agent) DO UPDATE SET enrolled = excluded.enrolled, size = excluded.size, "
            "hash = excluded.hash, kid = excluded.kid, body = excluded.body, noted = "
            "excluded.noted "
            "WHERE audit_checkpoints.enrolled <> excluded.enrolled "
            "OR audit_checkpoints.size < excluded.size",
        {{"agent", c.agent},
         {"enrolled", c.enrolled},
         {"size", c.size},
         {"hash", c.hash},
         {"kid", c.kid},
         {"body", c.text},
         {"noted", c.noted}});
    if (!sql.first("SELECT 1 " + current, agent, [](const Row&) { return true; }))
      return std::nullopt;
    return find(sql, c.agent, c.enrolled);
  });
}

std::optional<AuditCheckpoint> Store::audit_checkpoint(const std::string& agent,
                                                       WallTime enrolled) {
  return impl_->db.read([&](Sql& sql) { return find(sql, agent, enrolled); });
}

bool Store::forget_audit_checkpoint(const std::string& agent, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    if (sql.run("DELETE FROM audit_checkpoints WHERE agent = :agent", {{"agent", agent}}) == 0)
      return false;
    insert_event(sql, event);
    return true;
  });
}

}  // namespace keyagent::store
