#pragma once
// One at a time, and not longer than one is willing to wait.

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace keyagent::link {

// Thread-safe. (ThreadSanitizer does not know the timed locks of a std::timed_mutex.)
class Turn {
 public:
  // For as long as it lives, if it came.
  class Lease {
   public:
    explicit Lease(Turn& turn) : turn_(turn) {
      std::unique_lock lock(turn_.mutex_);
      turn_.changed_.wait(lock, [this] { return !turn_.taken_; });
      held_ = turn_.taken_ = true;
    }
    Lease(Turn& turn, std::chrono::milliseconds patience) : turn_(turn) {
      std::unique_lock lock(turn_.mutex_);
      if (!turn_.changed_.wait_for(lock, patience, [this] { return !turn_.taken_; })) return;
      held_ = turn_.taken_ = true;
    }
    ~Lease() {
      if (!held_) return;
      const std::lock_guard lock(turn_.mutex_);
      turn_.taken_ = false;
      turn_.changed_.notify_one();
    }
    Lease(const Lease&) = delete;
    bool held() const { return held_; }

   private:
    Turn& turn_;
    bool held_ = false;
  };

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool taken_ = false;  // guarded by mutex_
};

}  // namespace keyagent::link
