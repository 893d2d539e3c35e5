// SPDX-License-Identifier: Apache-2.0
#pragma once
// A thread that does one thing once a second, and may hang in the module while it does it.

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <thread>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent::daemon {

// When keys that the token lacks are looked for again: at once, then after 5 s, doubling to 5
// minutes.
class Recheck {
 public:
  bool due(bool wanted, SteadyTime now) {
    if (!wanted) {
      pause_ = kFirst;
      next_ = {};
      return false;
    }
    if (now < next_) return false;
    next_ = now + pause_;
    pause_ = std::min(2 * pause_, kLongest);
    return true;
  }

 private:
  static constexpr std::chrono::seconds kFirst{5}, kLongest{300};
  std::chrono::seconds pause_ = kFirst;
  SteadyTime next_{};
};

// Thread-safe.
class TokenHealthMonitor {
 public:
  explicit TokenHealthMonitor(std::function<void()> care) : care_(std::move(care)) {}
  ~TokenHealthMonitor() { stop(); }
  void start();
  void stop();
  // Throws what the last round threw.
  void rethrow_failure();

 private:
  void run();

  const std::function<void()> care_;
  Mutex mutex_;
  CondVar changed_;
  bool ended_ GUARDED_BY(mutex_) = false;
  std::exception_ptr failure_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace keyagent::daemon
