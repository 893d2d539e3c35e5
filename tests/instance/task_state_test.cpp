// SPDX-License-Identifier: Apache-2.0
// The table of tasks, whole: each state, each event, each of the facts.

#include "agent/instance/tasks/task_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <vector>

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

// What a cell of the table below means; "-" is: not from there.
std::optional<TaskStep> meant(const std::string& cell, const TaskFacts& facts) {
  using enum TaskState;
  const TaskStep waits{kQueued, true};
  const bool again = facts.left && facts.repeatable;
  if (cell == "-") return std::nullopt;
  if (cell == "uncounted") return TaskStep{kQueued, false, true};
  if (cell == "asked") return TaskStep{kStarted, false, false, true};
  if (cell == "unless-cancelling")
    return facts.cancelling ? std::nullopt : std::optional(TaskStep{kStarted});
  if (cell == "lost")
    return facts.cancelling ? TaskStep{kCancelled} : again ? waits : TaskStep{kUnknown};
  if (cell == "again") return again ? waits : TaskStep{kFailed};
  if (cell == "later") return facts.left ? waits : TaskStep{kFailed};
  if (cell == "again/c" && facts.cancelling) return TaskStep{kCancelled};
  if (cell == "again/c") return meant("again", facts);
  if (cell == "later/c" && facts.cancelling) return TaskStep{kCancelled};
  if (cell == "later/c") return meant("later", facts);
  return TaskStep{task_state_of(cell).value()};
}

constexpr const char* kTable = R"(
event         queued    leased    started           done  failed unknown cancelled
take          leased    leased    -                 -     -      -       -
start         -         started   unless-cancelling -     -      -       -
keep          -         leased    unless-cancelling -     -      -       -
lapse         -         uncounted lost              -     -      -       -
says_done     done      done      done              -     -      done    -
says_failed   again     again     again/c           -     -      again   -
says_retry    later     later     later/c           -     -      later   -
cancel        cancelled cancelled asked             -     -      -       cancelled
retry         -         -         -                 -     queued queued  -
)";

TEST(TaskState, R11_EveryEventInEveryStateLeadsWhereItMust) {
  std::istringstream lines(kTable);
  std::string line, word;
  std::getline(lines, line);
  std::getline(lines, line);
  std::vector<TaskState> states;
  std::istringstream head(line);
  head >> word;
  while (head >> word) states.push_back(task_state_of(word).value());
  ASSERT_EQ(states.size(), 7u);
  int event = 0;
  for (; std::getline(lines, line); ++event) {
    std::istringstream cells(line);
    std::string name, cell;
    cells >> name;
    std::replace(name.begin(), name.end(), '_', ' ');
    EXPECT_EQ(name_of(static_cast<TaskEvent>(event)), name);
    for (const auto state : states) {
      cells >> cell;
      for (unsigned bits = 0; bits < 8; ++bits) {
        const TaskFacts facts{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
        EXPECT_EQ(after(state, static_cast<TaskEvent>(event), facts), meant(cell, facts))
            << name << " in " << name_of(state) << ", facts " << bits;
      }
    }
  }
  EXPECT_EQ(event, 9);
  EXPECT_EQ(name_of(static_cast<TaskEvent>(event)), "?");  // the table above names them all
}

TEST(TaskState, WaitsDoubleUpToAnHourAndVaryByAFifth) {
  EXPECT_EQ(wait_after(1, 0), 8s);
  EXPECT_EQ(wait_after(1, 255), 12s);
  EXPECT_EQ(wait_after(2, 0), 16s);
  EXPECT_EQ(wait_after(5, 255), 192s);
  EXPECT_EQ(wait_after(10, 0), 48min);
  EXPECT_EQ(wait_after(1000, 255), kLongestTaskWait);
  for (std::int64_t attempt = 1; attempt < 20; ++attempt)
    EXPECT_LE(wait_after(attempt, 0), wait_after(attempt + 1, 0));
}

}  // namespace
}  // namespace keyagent::instance
