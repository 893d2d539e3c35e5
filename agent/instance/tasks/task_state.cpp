// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/tasks/task_state.h"

#include <algorithm>
#include <utility>

namespace keyagent::instance {
namespace {

using enum TaskState;
using enum TaskEvent;

constexpr std::pair<TaskState, std::string_view> kStates[] = {
    {kQueued, "queued"}, {kLeased, "leased"},   {kStarted, "started"},    {kDone, "done"},
    {kFailed, "failed"}, {kUnknown, "unknown"}, {kCancelled, "cancelled"}};
constexpr std::pair<TaskEvent, std::string_view> kEvents[] = {{kTake, "take"},
                                                              {kStart, "start"},
                                                              {kKeep, "keep"},
                                                              {kLapse, "lapse"},
                                                              {kSaysDone, "says done"},
                                                              {kSaysFailed, "says failed"},
                                                              {kSaysRetry, "says retry"},
                                                              {kCancel, "cancel"},
                                                              {kRetry, "retry"}};

enum class When {
  kAlways,
  kGoesOn,      // it is not to be cancelled
  kCancelling,  // it is
  kLeft,        // attempts are left
  kAgain        // and it may be repeated
};

struct Rule {
  TaskState from;
  TaskEvent event;
  When when;
  TaskStep step;
};
constexpr TaskStep kWaits{kQueued, true};

// The first that fits. An end may come late: after the lease ran out, before it is taken again.
constexpr Rule kRules[] = {
    {kQueued, kTake, When::kAlways, {kLeased}},
    {kLeased, kTake, When::kAlways, {kLeased}},
    {kLeased, kStart, When::kAlways, {kStarted}},
    {kStarted, kStart, When::kGoesOn, {kStarted}},
    {kLeased, kKeep, When::kAlways, {kLeased}},
    {kStarted, kKeep, When::kGoesOn, {kStarted}},

    {kLeased, kLapse, When::kAlways, {kQueued, false, true}},
    {kStarted, kLapse, When::kCancelling, {kCancelled}},
    {kStarted, kLapse, When::kAgain, kWaits},
    {kStarted, kLapse, When::kAlways, {kUnknown}},

    {kQueued, kSaysDone, When::kAlways, {kDone}},
    {kLeased, kSaysDone, When::kAlways, {kDone}},
    {kStarted, kSaysDone, When::kAlways, {kDone}},
    {kUnknown, kSaysDone, When::kAlways, {kDone}},

    {kQueued, kSaysFailed, When::kAgain, kWaits},
    {kQueued, kSaysFailed, When::kAlways, {kFailed}},
    {kLeased, kSaysFailed, When::kAgain, kWaits},
    {kLeased, kSaysFailed, When::kAlways, {kFailed}},
    {kStarted, kSaysFailed, When::kCancelling, {kCancelled}},
    {kStarted, kSaysFailed, When::kAgain, kWaits},
    {kStarted, kSaysFailed, When::kAlways, {kFailed}},
    {kUnknown, kSaysFailed, When::kAgain, kWaits},
    {kUnknown, kSaysFailed, When::kAlways, {kFailed}},

    {kQueued, kSaysRetry, When::kLeft, kWaits},
    {kQueued, kSaysRetry, When::kAlways, {kFailed}},
    {kLeased, kSaysRetry, When::kLeft, kWaits},
    {kLeased, kSaysRetry, When::kAlways, {kFailed}},
    {kStarted, kSaysRetry, When::kCancelling, {kCancelled}},
    {kStarted, kSaysRetry, When::kLeft, kWaits},
    {kStarted, kSaysRetry, When::kAlways, {kFailed}},
    {kUnknown, kSaysRetry, When::kLeft, kWaits},
    {kUnknown, kSaysRetry, When::kAlways, {kFailed}},

    {kQueued, kCancel, When::kAlways, {kCancelled}},
    {kLeased, kCancel, When::kAlways, {kCancelled}},
    {kStarted, kCancel, When::kAlways, {kStarted, false, false, true}},
    {kCancelled, kCancel, When::kAlways, {kCancelled}},
    {kFailed, kRetry, When::kAlways, {kQueued}},
    {kUnknown, kRetry, When::kAlways, {kQueued}},
};

bool fits(When when, const TaskFacts& facts) {
  switch (when) {
    case When::kAlways:
      return true;
    case When::kGoesOn:
      return !facts.cancelling;
    case When::kCancelling:
      return facts.cancelling;
    case When::kLeft:
      return facts.left;
    case When::kAgain:
      break;
  }
  return facts.left && facts.repeatable;
}

}  // namespace

std::string_view name_of(TaskState state) {
  for (const auto& [each, name] : kStates) {
    if (each == state) return name;
  }
  return "?";
}

std::optional<TaskState> task_state_of(std::string_view name) {
  for (const auto& [state, text] : kStates) {
    if (text == name) return state;
  }
  return std::nullopt;
}

std::string_view name_of(TaskEvent event) {
  for (const auto& [each, name] : kEvents) {
    if (each == event) return name;
  }
  return "?";
}

std::optional<TaskStep> after(TaskState state, TaskEvent event, const TaskFacts& facts) {
  for (const auto& rule : kRules) {
    if (rule.from == state && rule.event == event && fits(rule.when, facts)) return rule.step;
  }
  return std::nullopt;
}

std::chrono::milliseconds wait_after(std::int64_t attempt, unsigned random) {
  using namespace std::chrono;
  const auto doublings = std::clamp<std::int64_t>(attempt - 1, 0, 12);
  const milliseconds wait = std::min<milliseconds>(10s * (std::int64_t{1} << doublings), 1h);
  return wait * 4 / 5 + wait * 2 / 5 * (random & 255U) / 255;
}

}  // namespace keyagent::instance
