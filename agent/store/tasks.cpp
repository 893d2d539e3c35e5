// SPDX-License-Identifier: Apache-2.0
// Tasks as people see and change them; handing them out is in task_queue.cpp.

#include "agent/store/tasks.h"

#include <algorithm>

#include "agent/store/shared_statements.h"
#include "agent/store/task_table.h"

namespace keyagent::store {

// The counter's row stays locked until the commit: two submissions of one key are one after the
// other, and so are two that would be the last one allowed.
std::optional<Task> Tasks::add(const Task& task, std::size_t max_open, const Event& event) {
  return db_.write([&](Sql& sql) -> std::optional<Task> {
    auto added = task;
    added.number = sql.next_number("tasks");
    if (!task.key.empty()) {
      auto known = sql.first(kTasks.select() +
                                 "WHERE submitted_by = :by AND submit_key = :submit_key "
                                 "AND submit_key <> ''",
                             {{"by", task.submitted_by}, {"submit_key", task.key}}, kTasks);
      if (known) return known;
    }
    const auto open =
        sql.count("SELECT count(*) FROM tasks WHERE state IN ('queued', 'leased', 'started')");
    if (open >= static_cast<long long>(max_open)) return std::nullopt;
    sql.run(kTasks.insert(), kTasks.all(added));
    insert_event(sql, event);
    return added;
  });
}

std::optional<Task> Tasks::find(const std::string& id) {
  return db_.read([&](Sql& sql) {
    return sql.first(kTasks.select() + "WHERE id = :id", {{"id", id}}, kTasks);
  });
}

std::vector<Task> Tasks::list(const TaskFilter& filter) {
  return db_.read([&](Sql& sql) {
    return sql.all(select_short_tasks() +
                       "WHERE number > :after AND (:state = '' OR state = :state) "
                       "AND (:agent = '' OR agent = :agent OR target = :target) "
                       "AND (:handler = '' OR handler = :handler) ORDER BY number LIMIT :count",
                   {{"after", filter.after},
                    {"state", filter.state},
                    {"agent", filter.agent},
                    {"target", "agent:" + filter.agent},
                    {"handler", filter.handler},
                    {"count", std::min<std::size_t>(filter.count, 100'000)}},
                   kTasks);
  });
}

bool Tasks::move(const Task& t, const std::optional<Event>& event) {
  return db_.write([&](Sql& sql) {
    const bool moved =
        sql.run(
            kTasks.update() + ", revision = revision + 1 WHERE id = :id AND revision = :revision",
            kTasks.changes(t, {"id", "revision"})) == 1;
    if (moved && event) insert_event(sql, *event);
    return moved;
  });
}

std::vector<std::pair<std::string, std::int64_t>> Tasks::count_by_state() {
  return db_.read([](Sql& sql) {
    return sql.all<std::string, std::int64_t>(
        "SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state");
  });
}

void Tasks::forget(WallTime ended_before) {
  db_.write([&](Sql& sql) {
    sql.run(
        "DELETE FROM tasks WHERE state IN ('done', 'failed', 'unknown', 'cancelled') "
        "AND changed < :before",
        {{"before", ended_before}});
  });
}

}  // namespace keyagent::store
