// SPDX-License-Identifier: Apache-2.0
// Handing tasks out: the claim that replicas race for, leases, pauses.

#include <algorithm>

#include "agent/store/shared_statements.h"
#include "agent/store/task_table.h"
#include "agent/store/tasks.h"

namespace keyagent::store {
namespace {

constexpr Column<TaskPause> kPauseColumns[] = {
    column<&TaskPause::what>("what").key(),
    column<&TaskPause::paused_by>("paused_by"),
    column<&TaskPause::paused>("paused"),
};
constexpr Table<TaskPause> kTaskPauses{"task_pauses", kPauseColumns};

// What a claim writes.
constexpr ColumnNames kClaimed = {"agent",       "state",      "attempt",    "changed", "lease",
                                  "lease_until", "lease_life", "cancelling", "said"};

// The first of one target and one handler is the first entry of the index tasks_next that may be
// taken already.
std::optional<Task> first_of(Sql& sql, const TaskClaim& claim, const std::string& target,
                             const std::string& handler) {
  return sql.first(kTasks.select() + "WHERE " + kQueuedTask +
                       " AND target = :target AND handler = :handler AND not_before <= :now "
                       "ORDER BY priority DESC, number LIMIT 1",
                   {{"target", target}, {"handler", handler}, {"now", claim.now}}, kTasks);
}

std::optional<Task> next_of(Sql& sql, const TaskClaim& claim) {
  std::optional<Task> best;
  for (const auto& target : claim.targets) {
    for (const auto& handler : claim.handlers) {
      auto found = first_of(sql, claim, target, handler);
      const bool better =
          found && (!best || found->priority > best->priority ||
                    (found->priority == best->priority && found->number < best->number));
      if (better) best = std::move(found);
    }
  }
  return best;
}

// What this agent took and has not started. It takes one at a time: the answer was lost.
std::optional<Task> unheard_of(Sql& sql, const TaskClaim& claim) {
  for (const auto& handler : claim.handlers) {
    for (auto& found :
         sql.all(kTasks.select() + "WHERE " + kTakenTask +
                     " AND state = 'leased' AND agent = :agent AND handler = :handler "
                     "ORDER BY number LIMIT 10",
                 {{"agent", claim.agent}, {"handler", handler}}, kTasks)) {
      // It may have left the group that the task is for.
      if (std::find(claim.targets.begin(), claim.targets.end(), found.target) !=
          claim.targets.end())
        return std::move(found);
    }
  }
  return std::nullopt;
}

std::vector<TaskPause> pauses_of(Sql& sql) {
  return sql.all(kTaskPauses.select() + "ORDER BY what", {}, kTaskPauses);
}

// `claim` without what is paused. Anyone who pauses waits for the row that is held here, until this
// claim is there to be counted.
TaskClaim allowed(Sql& sql, TaskClaim claim) {
  sql.exists(std::string("SELECT value FROM counters WHERE name = 'task_pauses'") +
             sql.for_share());
  if (!claim.auth_kid.empty()) {
    const auto agent = agent_in(sql, claim.agent, sql.for_share());
    if (!is_trusted_with(sql, claim.agent, claim.auth_kid)) claim.handlers.clear();
    std::erase_if(claim.targets, [&](const auto& target) {
      const bool own = target == "agent:" + claim.agent;
      const bool grouped = agent && std::any_of(agent->groups.begin(), agent->groups.end(),
                                                [&](auto& g) { return target == "group:" + g; });
      return !own && !grouped;
    });
  }
  for (const auto& pause : pauses_of(sql)) {
    if (pause.what == "all" || pause.what == "agent:" + claim.agent) claim.handlers.clear();
    std::erase_if(claim.handlers,
                  [&](const auto& handler) { return pause.what == "handler:" + handler; });
  }
  return claim;
}

bool claim_one(Sql& sql, const TaskClaim& claim, Task& task) {
  task.agent = claim.agent;
  if (task.state == "queued") task.attempt += 1;
  task.state = "leased";
  task.changed = claim.now;
  task.lease = claim.lease;
  task.lease_until = claim.now + claim.life;
  task.lease_life = claim.life;
  task.cancelling = false;
  task.said.clear();
  auto bounds = kTasks.only(task, kClaimed);
  bounds.push_back({"id", task.id});
  bounds.push_back({"revision", task.revision});
  task.revision += 1;
  return sql.run(kTasks.update(kClaimed) +
                     ", revision = revision + 1 WHERE id = :id AND revision = :revision",
                 bounds) == 1;
}

}  // namespace

// Looks before it writes: most agents ask in vain. Anyone who loses the race for one looks for the
// next: that one was taken, so this ends.
std::optional<Task> Tasks::claim(const TaskClaim& claim) {
  const bool any =
      db_.read([&](Sql& sql) { return unheard_of(sql, claim) || next_of(sql, claim); });
  if (!any) return std::nullopt;
  return db_.write([&](Sql& sql) -> std::optional<Task> {
    const auto may = allowed(sql, claim);
    for (;;) {
      auto next = unheard_of(sql, may);
      if (!next) next = next_of(sql, may);
      if (!next || claim_one(sql, may, *next)) return next;
    }
  });
}

std::vector<Task> Tasks::lapsed(WallTime now, std::size_t count) {
  return db_.read([&](Sql& sql) {
    return sql.all(select_short_tasks() + "WHERE " + kTakenTask +
                       " AND lease_until <= :now ORDER BY lease_until LIMIT :count",
                   {{"now", now}, {"count", count}}, kTasks);
  });
}

std::chrono::milliseconds Tasks::settle_leases(WallTime now, WallTime longest_wait) {
  return db_.write([&](Sql& sql) {
    sql.run(std::string("UPDATE tasks SET lease_until = :now + lease_life, "
                        "revision = revision + 1 WHERE ") +
                kTakenTask + " AND lease_until > :now + lease_life",
            {{"now", now}});
    sql.run(std::string("UPDATE tasks SET not_before = :longest, revision = revision + 1 WHERE ") +
                kQueuedTask + " AND attempt > 0 AND not_before > :longest",
            {{"longest", longest_wait}});
    const auto longest = sql.count(
        std::string("SELECT coalesce(max(lease_life), 0) FROM tasks WHERE ") + kTakenTask);
    return std::chrono::milliseconds(longest);
  });
}

std::vector<std::string> Tasks::waiting_targets(WallTime from, WallTime until) {
  return db_.read([&](Sql& sql) {
    return sql.all<std::string>(std::string("SELECT DISTINCT target FROM tasks WHERE ") +
                                    kQueuedTask +
                                    " AND not_before > :from_time AND not_before <= :until",
                                {{"from_time", from}, {"until", until}});
  });
}

bool Tasks::any_waiting(const std::vector<std::string>& targets, WallTime now) {
  return db_.read([&](Sql& sql) {
    return std::any_of(targets.begin(), targets.end(), [&](const auto& target) {
      return sql.exists(std::string("SELECT 1 FROM tasks WHERE ") + kQueuedTask +
                            " AND target = :target AND not_before <= :now LIMIT 1",
                        {{"target", target}, {"now", now}});
    });
  });
}

std::int64_t Tasks::count_running(const std::string& what) {
  return db_.read([&](Sql& sql) -> std::int64_t {
    return sql.count(std::string("SELECT count(*) FROM tasks WHERE ") + kTakenTask +
                         " AND (:what = 'all' OR :what = 'agent:' || agent OR "
                         ":what = 'handler:' || handler)",
                     {{"what", what}});
  });
}

bool Tasks::pause(const TaskPause& pause, const Event& event) {
  return db_.write([&](Sql& sql) {
    sql.next_number("task_pauses");
    const bool fresh = sql.run(kTaskPauses.insert() + "ON CONFLICT (what) DO NOTHING",
                               kTaskPauses.all(pause)) == 1;
    if (fresh) insert_event(sql, event);
    return fresh;
  });
}

bool Tasks::resume(const std::string& what, const Event& event) {
  return db_.write([&](Sql& sql) {
    const bool was = sql.run("DELETE FROM task_pauses WHERE what = :what", {{"what", what}}) == 1;
    if (was) insert_event(sql, event);
    return was;
  });
}

std::vector<TaskPause> Tasks::pauses() {
  return db_.read([](Sql& sql) { return pauses_of(sql); });
}

}  // namespace keyagent::store
