// SPDX-License-Identifier: Apache-2.0
// What waits for a second person.

#include "agent/store/decisions.h"

#include <algorithm>

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Decision> kDecisionColumns[] = {
    column<&Decision::id>("id").key(),
    column<&Decision::kind>("kind").fixed(),
    column<&Decision::subject>("subject").fixed(),
    column<&Decision::request>("request").fixed(),
    column<&Decision::precondition>("precondition").fixed(),
    column<&Decision::state>("state"),
    column<&Decision::requested_by>("requested_by").fixed(),
    column<&Decision::decided_by>("decided_by"),
    escaped_column<&Decision::text>("body"),
    column<&Decision::created>("created").fixed(),
    column<&Decision::changed>("changed"),
    column<&Decision::expires>("expires").fixed(),
};
constexpr Table<Decision> kDecisions{"decisions", kDecisionColumns};

void insert_decision(Sql& sql, Decision decision) {
  decision.decided_by.clear();
  decision.changed = decision.created;
  sql.run(kDecisions.insert(), kDecisions.all(decision));
}

}  // namespace

std::optional<Decision> Decisions::add(const Decision& decision, std::size_t max_open,
                                       const Event& event) {
  return db_.write([&](Sql& sql) -> std::optional<Decision> {
    const auto open =
        sql.all(kDecisions.select() + "WHERE state = 'pending' AND requested_by = :by",
                {{"by", decision.requested_by}}, kDecisions);
    for (const auto& each : open) {
      if (each.kind == decision.kind && each.subject == decision.subject &&
          each.request == decision.request && each.precondition == decision.precondition)
        return each;
    }
    if (open.size() >= max_open) return std::nullopt;
    insert_decision(sql, decision);
    insert_event(sql, event);
    return decision;
  });
}

std::optional<Decision> Decisions::find(const std::string& id) {
  return db_.read([&](Sql& sql) {
    return sql.first(kDecisions.select() + "WHERE id = :id", {{"id", id}}, kDecisions);
  });
}

std::vector<Decision> Decisions::list(const std::string& state, std::size_t count) {
  return db_.read([&](Sql& sql) {
    const std::string which = state.empty() ? "" : "WHERE state = :state ";
    Bounds bounds{{"count", std::min<std::size_t>(count, 10'000)}};
    if (!state.empty()) bounds.push_back({"state", state});
    return sql.all(kDecisions.select() + which + "ORDER BY created DESC, id LIMIT :count", bounds,
                   kDecisions);
  });
}

bool Decisions::decide(const Decision& decision, const Event& event) {
  return db_.write([&](Sql& sql) {
    const auto changed = sql.run(kDecisions.update() + " WHERE id = :id AND state = 'pending'",
                                 kDecisions.changes(decision, {"id"}));
    if (changed == 1) insert_event(sql, event);
    return changed == 1;
  });
}

std::vector<Decision> Decisions::expired(WallTime now, std::size_t count) {
  return db_.read([&](Sql& sql) {
    return sql.all(kDecisions.select() +
                       "WHERE state = 'pending' AND expires <= :now ORDER BY expires LIMIT :count",
                   {{"now", now}, {"count", count}}, kDecisions);
  });
}

void Decisions::forget(WallTime changed_before) {
  db_.write([&](Sql& sql) {
    sql.run("DELETE FROM decisions WHERE state <> 'pending' AND changed < :before",
            {{"before", changed_before}});
  });
}

}  // namespace keyagent::store
