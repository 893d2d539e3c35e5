// SPDX-License-Identifier: Apache-2.0
// What waits for a second person.

#include <algorithm>

#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelect =
    "SELECT id, kind, subject, request, precondition, state, requested_by, decided_by, body, "
    "created, changed, expires FROM decisions ";

Decision decision_of(const Row& row) {
  return {.id = row.text(0),
          .kind = row.text(1),
          .subject = row.text(2),
          .request = row.text(3),
          .precondition = row.text(4),
          .state = row.text(5),
          .requested_by = row.text(6),
          .decided_by = row.text(7),
          .text = row.text(8),
          .created = row.time(9),
          .changed = row.time(10),
          .expires = row.time(11)};
}

void insert_decision(Sql& sql, const Decision& decision) {
  sql.run(
      "INSERT INTO decisions (id, kind, subject, request, precondition, state, requested_by, "
      "decided_by, body, created, changed, expires) VALUES (:id, :kind, :subject, :request, "
      ":precondition, :state, :requested_by, '', :body, :created, :created, :expires)",
      {{"id", decision.id},
       {"kind", decision.kind},
       {"subject", decision.subject},
       {"request", decision.request},
       {"precondition", decision.precondition},
       {"state", decision.state},
       {"requested_by", decision.requested_by},
       {"body", storable(decision.text)},
       {"created", decision.created},
       {"expires", decision.expires}});
}

}  // namespace

void Store::together(const std::function<void()>& work) {
  impl_->db.together(work);
}

std::optional<Decision> Store::add_decision(const Decision& decision, std::size_t max_open,
                                            const Event& event) {
  return impl_->db.write([&](Sql& sql) -> std::optional<Decision> {
    const auto open = sql.all(kSelect + "WHERE state = 'pending' AND requested_by = :by",
                              {{"by", decision.requested_by}}, decision_of);
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

std::optional<Decision> Store::decision(const std::string& id) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelect + "WHERE id = :id", {{"id", id}}, decision_of);
  });
}

std::vector<Decision> Store::decisions(const std::string& state, std::size_t count) {
  return impl_->db.read([&](Sql& sql) {
    const std::string which = state.empty() ? "" : "WHERE state = :state ";
    Bounds bounds{{"count", std::min<std::size_t>(count, 10'000)}};
    if (!state.empty()) bounds.push_back({"state", state});
    return sql.all(kSelect + which + "ORDER BY created DESC, id LIMIT :count", bounds, decision_of);
  });
}

bool Store::decide(const Decision& decision, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const auto changed = sql.run(
        "UPDATE decisions SET state = :state, decided_by = :by, body = :body, changed = :changed "
        "WHERE id = :id AND state = 'pending'",
        {{"state", decision.state},
         {"by", decision.decided_by},
         {"body", storable(decision.text)},
         {"changed", decision.changed},
         {"id", decision.id}});
    if (changed == 1) insert_event(sql, event);
    return changed == 1;
  });
}

std::vector<Decision> Store::expired_decisions(WallTime now, std::size_t count) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        kSelect + "WHERE state = 'pending' AND expires <= :now ORDER BY expires LIMIT :count",
        {{"now", now}, {"count", count}}, decision_of);
  });
}

void Store::forget_decisions(WallTime changed_before) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM decisions WHERE state <> 'pending' AND changed < :before",
            {{"before", changed_before}});
  });
}

}  // namespace keyagent::store
