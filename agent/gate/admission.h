// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who may be inside the token now, and who is next.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "agent/base/mutex.h"

namespace keyagent::gate {

// A bounded queue in front of a fixed number of slots, round robin by uid. One uid may fill the
// queue while others do not need it; when it is full, a new job of a uid with fewer waiting jobs
// displaces the newest job of the uid with the most (RELIABILITY 149). Slow jobs of one uid hold at
// most half of the slots. Thread-safe. Has no threads: a job runs on the thread that submits it
// when a slot is free, and the thread that finishes a job takes the next one. A job that never
// returns keeps its slot.
class Admission {
 public:
  enum class Answer { kRan, kQueued, kBusy };
  // `abandoned`: set when the job has been answered by other means; it is then dropped without
  // running.
  struct Job {
    std::uint32_t uid = 0;
    std::function<void()> run;  // must not throw
    std::shared_ptr<const std::atomic<bool>> abandoned;
    // Called instead of `run` when the job has lost its place to another uid. Must not throw.
    std::function<void()> displaced = {};
    bool slow = false;  // takes seconds, as making a key does
  };

  Admission(std::size_t slots, std::size_t queue) : slots_(slots), queue_(queue) {}

  // kRan: the job, and perhaps others that waited, have run on this thread. kBusy: nothing was
  // taken; `job` will never run.
  Answer submit(Job job);

  std::size_t running() const;
  std::size_t waiting() const;

 private:
  using Jobs = std::map<std::uint32_t, std::deque<Job>>;

  bool may_run(const Job& job) const REQUIRES(mutex_);
  void begin(const Job& job) REQUIRES(mutex_);
  void end(std::uint32_t uid, bool slow) REQUIRES(mutex_);
  bool take_next(Job& job) REQUIRES(mutex_);
  void drop_abandoned() REQUIRES(mutex_);
  std::optional<Job> displace(std::uint32_t by) REQUIRES(mutex_);
  void remove_if_empty(Jobs::iterator jobs) REQUIRES(mutex_);
  void work(Job job);

  const std::size_t slots_, queue_;
  mutable Mutex mutex_;
  std::size_t running_ GUARDED_BY(mutex_) = 0, waiting_ GUARDED_BY(mutex_) = 0;
  Jobs jobs_ GUARDED_BY(mutex_);                        // never an empty deque
  std::deque<std::uint32_t> turns_ GUARDED_BY(mutex_);  // the uids of jobs_, the next one first
  // Slow jobs that run, by uid; never 0.
  std::map<std::uint32_t, std::size_t> slow_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::gate
