// SPDX-License-Identifier: Apache-2.0
#pragma once
// The journal of tasks that this host took. An outcome survives the agent, its host and any absence
// of the instance; and a task that is delivered again is recognized by its outcome.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent::link {

struct TaskOutcome {
  std::string outcome;  // "done", "failed", "retry"
  std::string text;     // one line
  std::string result;
  bool operator==(const TaskOutcome&) const = default;
};

struct TaskEntry {
  // kEnded: its outcome is to be delivered. kAccepted, kRefused: the instance's answer to it.
  enum class Stage { kStarted, kEnded, kAccepted, kRefused } stage = Stage::kStarted;
  std::uint64_t order = 0;  // of its last change: outcomes are delivered in this order
  std::string id, handler, lease;
  std::uint32_t uid = 0, attempt = 0;
  std::string credential, grant;  // its name, or empty; SHA-256 of the secret that fetches it
  std::uint32_t runs_as = 0;      // the uid of the handler
  TaskOutcome end;                // without its result, which stays on the disk
  std::string changed;            // RFC 3339
};
// "started" "ended" "accepted" "refused"
const char* name_of(TaskEntry::Stage stage);

// 32 lower-case hex digits: an id is the name of a file here.
bool is_task_id(std::string_view id);
std::string to_text(const TaskEntry& entry);
// With the result. Throws Error{kIntegrity} for anything but what to_text() writes.
TaskEntry parse_task_entry(std::string_view text);

// `tasks/ID.json` in the agent's state folder (0600), each replaced as a whole: a crash leaves the
// entry before or after, and a corrupt file is set aside and reported. Thread-safe.
class TaskJournal {
 public:
  struct Limits {
    std::size_t waiting = 1000;                // outcomes; then it is full()
    std::size_t started = 1000;                // the oldest beyond them are forgotten
    std::size_t answered = 10000;              // that the instance has accepted or refused
    std::uintmax_t answered_bytes = 64 << 20;  // of their files
    std::chrono::milliseconds kept{std::chrono::hours(24)};  // these, and tasks that never ended
  };
  TaskJournal(std::filesystem::path folder, const Clock& clock, Limits limits);

  std::optional<TaskEntry> find(const std::string& id) const;
  std::vector<TaskEntry> list() const;  // the oldest change first
  std::size_t started() const;
  std::size_t waiting() const;
  bool full() const { return waiting() >= limits_.waiting; }
  // The outcome to be delivered next, with its result.
  std::optional<TaskEntry> next();

  // All of these are on the disk when they return, or throw Error{kConfiguration} and nothing has
  // changed. An entry of the same id is replaced.
  void start(TaskEntry entry);
  // Throws Error{kKeyState} unless it is started.
  void end(const std::string& id, const TaskOutcome& outcome);
  // Its outcome is to be delivered once more, with this lease. REQUIRES: it has one.
  void deliver_again(const std::string& id, const std::string& lease);
  // The instance's answer to `delivered`; nothing when it is to be delivered again since then.
  void answered(const TaskEntry& delivered, bool accepted);
  void forget(const std::string& id);
  void forget_all();
  // It is still being worked on.
  void touch(const std::string& id);

 private:
  struct Kept {
    TaskEntry entry;  // without its result
    SteadyTime since;
    std::uintmax_t size = 0;
  };
  using Entries = std::map<std::string, Kept>;
  void load() REQUIRES(mutex_);
  void put(TaskEntry entry) REQUIRES(mutex_);
  TaskEntry read(const std::string& id) const;
  void erase(Entries::iterator which) REQUIRES(mutex_);
  void prune() REQUIRES(mutex_);
  std::size_t count(TaskEntry::Stage stage) const;
  std::filesystem::path path_of(const std::string& id) const { return folder_ / (id + ".json"); }

  const std::filesystem::path folder_;
  const Clock& clock_;
  const Limits limits_;
  mutable Mutex mutex_;
  Entries entries_ GUARDED_BY(mutex_);
  std::uint64_t order_ GUARDED_BY(mutex_) = 0;  // of the last change
};

}  // namespace keyagent::link
