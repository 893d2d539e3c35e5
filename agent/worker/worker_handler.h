// SPDX-License-Identifier: Apache-2.0
#pragma once
// One run of a handler: started confined, fed, listened to, and ended in time.

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "agent/base/bytes.h"
#include "agent/base/disk.h"
#include "agent/worker/worker_config.h"

namespace keyagent::worker {

// Of the clock that continues while the host sleeps: a lease does too.
using BootTime = std::chrono::nanoseconds;
BootTime boot_now();

// Becomes readable once and stays so. Thread-safe.
class Flag {
 public:
  Flag();
  void raise();
  bool raised() const { return raised_; }
  int fd() const { return fd_.get(); }
  // True when it is raised; false when the time is over.
  bool wait(std::chrono::milliseconds time) const;

 private:
  Fd fd_;
  std::atomic<bool> raised_{false};
};

// How long a task may continue. Thread-safe: one side extends it, the other obeys.
class LeaseGuard {
 public:
  explicit LeaseGuard(BootTime until) : until_(until.count()) {}
  void extend(BootTime until) { until_ = until.count(); }
  BootTime until() const { return BootTime(until_); }
  // It is over now, and the task with it.
  void cut() { cut_.raise(); }
  const Flag& is_cut() const { return cut_; }

 private:
  std::atomic<BootTime::rep> until_;
  Flag cut_;
};

struct HandlerWork {
  std::string id, input;
  std::uint32_t attempt = 0;
  std::chrono::seconds limit{0};
  std::optional<SecretBytes> credential;
};

struct HandlerEnd {
  std::string outcome, text, result;  // "done", "failed", "retry"
};

// Exit 0 is done, 75 asks for another attempt, all else failed. What it leaves running of its group
// is killed. Its standard error goes to the log. Blocks; the handler dies with the calling thread.
// Throws Error{kPeer} when it could not be started.
HandlerEnd run_handler(const HandlerConfig& handler, const HandlerWork& work,
                       const LeaseGuard& leash, const Flag& killed);

}  // namespace keyagent::worker
