// SPDX-License-Identifier: Apache-2.0
#pragma once
// A mutex whose waiters may give up after a timeout.

#include <chrono>

#include "agent/base/mutex.h"

namespace keyagent::link {

// For MutexLock. (ThreadSanitizer does not know the timed locks of the standard library.)
class CAPABILITY("mutex") TimedMutex {
 public:
  void lock() ACQUIRE() {
    const MutexLock lock(mutex_);
    changed_.wait(mutex_, [this]() REQUIRES(mutex_) { return !taken_; });
    taken_ = true;
  }
  bool try_lock_for(std::chrono::milliseconds timeout) TRY_ACQUIRE(true) {
    const MutexLock lock(mutex_);
    if (!changed_.wait_for(mutex_, timeout, [this]() REQUIRES(mutex_) { return !taken_; }))
      return false;
    return taken_ = true;
  }
  void unlock() RELEASE() {
    const MutexLock lock(mutex_);
    taken_ = false;
    changed_.notify_one();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool taken_ GUARDED_BY(mutex_) = false;
};

}  // namespace keyagent::link
