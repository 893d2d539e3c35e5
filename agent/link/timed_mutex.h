// SPDX-License-Identifier: Apache-2.0
#pragma once
// A mutex whose waiters may give up after a timeout.

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace keyagent::link {

// Thread-safe. (ThreadSanitizer does not know the timed locks of a std::timed_mutex.)
class TimedMutex {
 public:
  // Holds the mutex until it is destroyed. With a timeout the lock may have failed: see held().
  class Lock {
   public:
    explicit Lock(TimedMutex& mutex) : owner_(mutex) {
      std::unique_lock lock(owner_.mutex_);
      owner_.changed_.wait(lock, [this] { return !owner_.taken_; });
      held_ = owner_.taken_ = true;
    }
    Lock(TimedMutex& mutex, std::chrono::milliseconds timeout) : owner_(mutex) {
      std::unique_lock lock(owner_.mutex_);
      if (!owner_.changed_.wait_for(lock, timeout, [this] { return !owner_.taken_; })) return;
      held_ = owner_.taken_ = true;
    }
    ~Lock() {
      if (!held_) return;
      const std::lock_guard lock(owner_.mutex_);
      owner_.taken_ = false;
      owner_.changed_.notify_one();
    }
    Lock(const Lock&) = delete;
    bool held() const { return held_; }

   private:
    TimedMutex& owner_;
    bool held_ = false;
  };

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool taken_ = false;  // guarded by mutex_
};

}  // namespace keyagent::link
