// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tasks: as people see and change them (tasks.cpp), and how they are handed out (task_queue.cpp).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

struct TaskFilter {
  std::string state{}, agent{}, handler{};  // empty: any; agent: who has it, or whom it is for
  std::int64_t after = 0;                   // a task's number
  std::size_t count = 100;
};
struct TaskClaim {
  std::string agent;
  std::vector<std::string> targets, handlers;
  Bytes lease;  // SHA-256 of its secret
  WallTime now;
  std::chrono::milliseconds life{};
  std::string auth_kid{};  // not empty: only while the agent is trusted with this key, and for
                           // those of its targets that are its own then
};

class Tasks : public Repository {
 public:
  using Repository::Repository;

  // The task as it is in the store: the new one, numbered, or the one that the same submitter has
  // given the same key. nullopt, and nothing is changed: `max_open` have not ended. The event is
  // recorded with a new one.
  std::optional<Task> add(const Task& task, std::size_t max_open, const Event& event);
  std::optional<Task> find(const std::string& id);
  std::vector<Task> list(const TaskFilter& filter);  // without inputs and results
  // Writes what may change of a task if the row still has task.revision, and raises it; the event
  // with it. False, and nothing is changed: someone was faster.
  bool move(const Task& task, const std::optional<Event>& event = std::nullopt);
  std::vector<std::pair<std::string, std::int64_t>> count_by_state();
  void forget(WallTime ended_before);

  // Takes the next queued task for one of these targets and handlers, by priority and submission,
  // unless it is paused: leased, its attempt counted. No one else gets it. Before it what the same
  // agent took and did not start, under a new lease.
  std::optional<Task> claim(const TaskClaim& claim);
  // Leased or started, their lease over at `now`; without inputs and results.
  std::vector<Task> lapsed(WallTime now, std::size_t count);
  // After the clock has jumped: no lease lasts longer than it was given for, no attempt waits
  // beyond `longest_wait`. Returns the longest life of an open lease.
  std::chrono::milliseconds settle_leases(WallTime now, WallTime longest_wait);
  // The targets of queued tasks that may be taken after `from`, at `until` the latest.
  std::vector<std::string> waiting_targets(WallTime from, WallTime until);
  bool any_waiting(const std::vector<std::string>& targets, WallTime now);
  std::int64_t count_running(const std::string& what);  // leased or started, of all or of a pause

  // Once it has returned nothing is handed out that it is about. False: it was so already.
  bool pause(const TaskPause& pause, const Event& event);
  bool resume(const std::string& what, const Event& event);
  std::vector<TaskPause> pauses();
};

}  // namespace keyagent::store
