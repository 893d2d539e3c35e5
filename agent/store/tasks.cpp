// SPDX-License-Identifier: Apache-2.0
// Tasks as people see and change them; handing them out is in task_queue.cpp.

#include "agent/store/tasks.h"

#include <algorithm>

namespace keyagent::store {

std::string select_tasks(bool whole) {
  return std::string(
             "SELECT id, number, submit_key, digest, handler, target, agent, state, credential, "
             "priority, repeatable, attempt, attempts, seconds, not_before, submitted_by, "
             "submitted, changed, lease, lease_until, lease_life, cancelling, said, detail, "
             "revision, ") +
         (whole ? "input, result" : "'', ''") + " FROM tasks ";
}

Task task_of(const Row& row) {
  return {.id = row.text(0),
          .number = row.number(1),
          .key = row.text(2),
          .digest = row.text(3),
          .handler = row.text(4),
          .target = row.text(5),
          .agent = row.text(6),
          .state = row.text(7),
          .input = row.text(25),
          .credential = row.text(8),
          .priority = row.number(9),
          .repeatable = row.flag(10),
          .attempt = row.number(11),
          .attempts = row.number(12),
          .seconds = row.number(13),
          .not_before = row.time(14),
          .submitted_by = row.text(15),
          .submitted = row.time(16),
          .changed = row.time(17),
          .lease = row.bytes(18),
          .lease_until = row.time(19),
          .lease_life = std::chrono::milliseconds(row.number(20)),
          .cancelling = row.flag(21),
          .said = row.bytes(22),
          .text = row.text(23),
          .result = row.text(26),
          .revision = row.number(24)};
}

namespace {

void insert(Sql& sql, const Task& t) {
  sql.run(
      "INSERT INTO tasks (id, number, submit_key, digest, handler, target, agent, state, input, "
      "credential, priority, repeatable, attempt, attempts, seconds, not_before, submitted_by, "
      "submitted, changed, lease, lease_until, lease_life, cancelling, said, detail, result, "
      "revision) VALUES (:id, :number, :submit_key, :digest, :handler, :target, :agent, :state, "
      ":input, :credential, :priority, :repeatable, :attempt, :attempts, :seconds, :not_before, "
      ":submitted_by, :submitted, :changed, :lease, :lease_until, :lease_life, :cancelling, "
      ":said, :detail, :result, :revision)",
      {{"id", t.id},
       {"number", t.number},
       {"submit_key", t.key},
       {"digest", t.digest},
       {"handler", t.handler},
       {"target", t.target},
       {"agent", t.agent},
       {"state", t.state},
       {"input", t.input},
       {"credential", t.credential},
       {"priority", t.priority},
       {"repeatable", t.repeatable},
       {"attempt", t.attempt},
       {"attempts", t.attempts},
       {"seconds", t.seconds},
       {"not_before", t.not_before},
       {"submitted_by", t.submitted_by},
       {"submitted", t.submitted},
       {"changed", t.changed},
       {"lease", t.lease},
       {"lease_until", t.lease_until},
       {"lease_life", t.lease_life.count()},
       {"cancelling", t.cancelling},
       {"said", t.said},
       {"detail", storable(t.text)},
       {"result", storable(t.result)},
       {"revision", t.revision}});
}

}  // namespace

// The counter's row stays locked until the commit: two submissions of one key are one after the
// other, and so are two that would be the last one allowed.
std::optional<Task> Store::add_task(const Task& task, std::size_t max_open, const Event& event) {
  return impl_->db.write([&](Sql& sql) -> std::optional<Task> {
    auto added = task;
    added.number = sql.next_number("tasks");
    if (!task.key.empty()) {
      auto known = sql.first(select_tasks(true) +
                                 "WHERE submitted_by = :by AND submit_key = :submit_key "
                                 "AND submit_key <> ''",
                             {{"by", task.submitted_by}, {"submit_key", task.key}}, task_of);
      if (known) return known;
    }
    const auto open =
        sql.first("SELECT count(*) FROM tasks WHERE state IN ('queued', 'leased', 'started')", {},
                  [](const Row& row) { return row.number(0); });
    if (open.value() >= static_cast<long long>(max_open)) return std::nullopt;
    insert(sql, added);
    insert_event(sql, event);
    return added;
  });
}

std::optional<Task> Store::task(const std::string& id) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(select_tasks(true) + "WHERE id = :id", {{"id", id}}, task_of);
  });
}

std::vector<Task> Store::tasks(const TaskFilter& filter) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(select_tasks(false) +
                       "WHERE number > :after AND (:state = '' OR state = :state) "
                       "AND (:agent = '' OR agent = :agent OR target = :target) "
                       "AND (:handler = '' OR handler = :handler) ORDER BY number LIMIT :count",
                   {{"after", filter.after},
                    {"state", filter.state},
                    {"agent", filter.agent},
                    {"target", "agent:" + filter.agent},
                    {"handler", filter.handler},
                    {"count", std::min<std::size_t>(filter.count, 100'000)}},
                   task_of);
  });
}

bool Store::move_task(const Task& t, const std::optional<Event>& event) {
  return impl_->db.write([&](Sql& sql) {
    const bool moved =
        sql.run(
            "UPDATE tasks SET agent = :agent, state = :state, attempt = :attempt, "
            "attempts = :attempts, not_before = :not_before, changed = :changed, lease = :lease, "
            "lease_until = :lease_until, lease_life = :lease_life, cancelling = :cancelling, "
            "said = :said, detail = :detail, result = :result, revision = revision + 1 "
            "WHERE id = :id AND revision = :revision",
            {{"agent", t.agent},
             {"state", t.state},
             {"attempt", t.attempt},
             {"attempts", t.attempts},
             {"not_before", t.not_before},
             {"changed", t.changed},
             {"lease", t.lease},
             {"lease_until", t.lease_until},
             {"lease_life", t.lease_life.count()},
             {"cancelling", t.cancelling},
             {"said", t.said},
             {"detail", storable(t.text)},
             {"result", storable(t.result)},
             {"id", t.id},
             {"revision", t.revision}}) == 1;
    if (moved && event) insert_event(sql, *event);
    return moved;
  });
}

std::vector<std::pair<std::string, std::int64_t>> Store::count_tasks() {
  return impl_->db.read([](Sql& sql) {
    return sql.all("SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state", {},
                   [](const Row& row) {
                     return std::pair<std::string, std::int64_t>(row.text(0), row.number(1));
                   });
  });
}

void Store::forget_tasks(WallTime ended_before) {
  impl_->db.write([&](Sql& sql) {
    sql.run(
        "DELETE FROM tasks WHERE state IN ('done', 'failed', 'unknown', 'cancelled') "
        "AND changed < :before",
        {{"before", ended_before}});
  });
}

}  // namespace keyagent::store
