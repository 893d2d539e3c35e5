// SPDX-License-Identifier: Apache-2.0
#pragma once
// A dedicated thread for exchanges, so that a slow peer does not block other work.

#include <chrono>
#include <functional>
#include <thread>

#include "agent/base/mutex.h"

namespace keyagent::instance {

// Calls `work` each second until it goes; then waits for the call that runs.
class ExchangeWorker {
 public:
  explicit ExchangeWorker(std::function<void()> work)
      : work_(std::move(work)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

 private:
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      work_();
      const MutexLock lock(mutex_);
      wake_.wait_for(mutex_, stop, std::chrono::seconds(1), [] { return false; });
    }
  }

  const std::function<void()> work_;
  Mutex mutex_;
  StoppableCondVar wake_;
  std::jthread thread_;
};

}  // namespace keyagent::instance
