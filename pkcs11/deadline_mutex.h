// SPDX-License-Identifier: Apache-2.0
#pragma once
// A shared mutex whose every wait ends at a deadline.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace keyagent::pkcs11 {

// For std::unique_lock and std::shared_lock with a time point; there is no way to wait forever. An
// owner that waits keeps newcomers out, so that it gets its turn. Unlike std::shared_timed_mutex
// its parts are known to ThreadSanitizer, and a thread other than the one that locked may unlock.
class DeadlineMutex {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  bool try_lock_until(TimePoint until) {
    std::unique_lock lock(mutex_);
    ++owners_waiting_;
    const bool alone = changed_.wait_until(lock, until, [this] { return !owned_ && shares_ == 0; });
    --owners_waiting_;
    if (alone) {
      owned_ = true;
    } else {
      changed_.notify_all();
    }
    return alone;
  }
  void unlock() {
    const std::lock_guard lock(mutex_);
    owned_ = false;
    changed_.notify_all();
  }
  bool try_lock_shared_until(TimePoint until) {
    std::unique_lock lock(mutex_);
    const auto free = [this] { return !owned_ && owners_waiting_ == 0; };
    if (!free() && !changed_.wait_until(lock, until, free)) return false;
    ++shares_;
    return true;
  }
  void unlock_shared() {
    const std::lock_guard lock(mutex_);
    if (--shares_ == 0 && owners_waiting_ > 0) changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t shares_ = 0, owners_waiting_ = 0;
  bool owned_ = false;
};

}  // namespace keyagent::pkcs11
