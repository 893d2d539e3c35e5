// SPDX-License-Identifier: Apache-2.0
#pragma once
// A shared mutex whose every wait ends at a deadline.

#include <chrono>
#include <cstddef>

#include "agent/base/mutex.h"

namespace keyagent::pkcs11 {

// For std::unique_lock and std::shared_lock with a time point; there is no way to wait forever. An
// owner that waits keeps newcomers out, so that it gets its turn. Unlike std::shared_timed_mutex
// its parts are known to ThreadSanitizer, and a thread other than the one that locked may unlock.
class CAPABILITY("mutex") DeadlineMutex {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  bool try_lock_until(TimePoint until) TRY_ACQUIRE(true) {
    const MutexLock lock(mutex_);
    ++owners_waiting_;
    const bool alone = changed_.wait_until(
        mutex_, until, [this]() REQUIRES(mutex_) { return !owned_ && shares_ == 0; });
    --owners_waiting_;
    if (alone) {
      owned_ = true;
    } else {
      changed_.notify_all();
    }
    return alone;
  }
  void unlock() RELEASE() {
    const MutexLock lock(mutex_);
    owned_ = false;
    changed_.notify_all();
  }
  bool try_lock_shared_until(TimePoint until) TRY_ACQUIRE_SHARED(true) {
    const MutexLock lock(mutex_);
    const auto free = [this]() REQUIRES(mutex_) { return !owned_ && owners_waiting_ == 0; };
    if (!free() && !changed_.wait_until(mutex_, until, free)) return false;
    ++shares_;
    return true;
  }
  void unlock_shared() RELEASE_GENERIC() {
    const MutexLock lock(mutex_);
    if (--shares_ == 0 && owners_waiting_ > 0) changed_.notify_all();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::size_t shares_ GUARDED_BY(mutex_) = 0, owners_waiting_ GUARDED_BY(mutex_) = 0;
  bool owned_ GUARDED_BY(mutex_) = false;
};

}  // namespace keyagent::pkcs11
