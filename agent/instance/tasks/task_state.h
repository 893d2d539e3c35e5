// SPDX-License-Identifier: Apache-2.0
#pragma once
// What may become of a task. A pure table.

#include <chrono>
#include <optional>
#include <string_view>

namespace keyagent::instance {

enum class TaskState { kQueued, kLeased, kStarted, kDone, kFailed, kUnknown, kCancelled };
enum class TaskEvent {
  kTake,
  kStart,
  kKeep,
  kLapse,     // its lease ran out
  kSaysDone,  // the end that its agent tells, also too late
  kSaysFailed,
  kSaysRetry,
  kCancel,
  kRetry  // an operator's decision
};

std::string_view name_of(TaskState state);
std::optional<TaskState> task_state_of(std::string_view name);
std::string_view name_of(TaskEvent event);

struct TaskFacts {
  bool repeatable = false;
  bool left = false;        // it may be attempted again
  bool cancelling = false;  // cancelled while it was started
};
struct TaskStep {
  TaskState to{};
  bool wait = false;       // before the next attempt
  bool uncounted = false;  // this attempt was none
  bool cancelling = false;
  bool operator==(const TaskStep&) const = default;
};

// nullopt: not allowed in this state. When it was applied already, the same state: agents and users
// may repeat requests.
std::optional<TaskStep> after(TaskState state, TaskEvent event, const TaskFacts& facts);

// How long the attempt after `attempt` (from 1) waits: 10 s doubled by each, an hour at most, a
// fifth more or less. `random`: 0 to 255.
std::chrono::milliseconds wait_after(std::int64_t attempt, unsigned random);
constexpr std::chrono::minutes kLongestTaskWait{72};

}  // namespace keyagent::instance
