#pragma once
// Refusals are on disk before they are answered, and still cost an attacker more than the agent.

#include <cstddef>
#include <functional>
#include <mutex>
#include <vector>

#include "agent/audit/audit_log.h"

namespace keyagent::gate {

// Thread-safe. One thread at a time waits for the disk, with all refusals that came meanwhile in
// one sync; so a flood of forbidden requests holds one of the agent's threads, never all.
class Refusals {
 public:
  explicit Refusals(audit::AuditLog& audit) : audit_(audit) {}
  // `answer` is called when the event is synced, on this or another thread; also when the log
  // cannot be written: a refusal is safe without it. Must not throw.
  void submit(audit::Event event, std::function<void()> answer);

 private:
  struct Waiting {
    audit::Event event;
    std::function<void()> answer;
  };
  void write(std::vector<Waiting>& batch);

  static constexpr std::size_t kMost = 4096;
  audit::AuditLog& audit_;
  std::mutex mutex_;
  bool writing_ = false;          // guarded by mutex_
  std::vector<Waiting> waiting_;  // guarded by mutex_
  std::size_t unlisted_ = 0;      // guarded by mutex_
};

}  // namespace keyagent::gate
