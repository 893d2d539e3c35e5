// SPDX-License-Identifier: Apache-2.0
#pragma once
// Its own thread for exchanges: a peer that takes its time for an answer holds up no one.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace keyagent::instance {

// Calls `work` each second until it goes; then waits for the call that runs.
class ExchangeWorker {
 public:
  explicit ExchangeWorker(std::function<void()> work)
      : work_(std::move(work)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

 private:
  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      lock.unlock();
      work_();
      lock.lock();
      wake_.wait_for(lock, stop, std::chrono::seconds(1), [] { return false; });
    }
  }

  const std::function<void()> work_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

}  // namespace keyagent::instance
