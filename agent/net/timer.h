// SPDX-License-Identifier: Apache-2.0
#pragma once
// Things to be done later, on one thread.

#include <chrono>
#include <functional>
#include <map>
#include <thread>
#include <vector>

#include "agent/base/mutex.h"

namespace keyagent::net {

// Thread-safe. Every request sets a deadline that almost never comes, so a distant task is cheap to
// add: tasks more than 100 ms away share slots of 16 ms and may run that much late; nearer ones run
// when asked. Tasks must be short and must not throw.
class Timer {
 public:
  using Time = std::chrono::steady_clock::time_point;
  Timer();
  ~Timer() { stop(); }
  // Waits for the task that is running; drops the others, and those that come later. Not from a
  // task.
  void stop();
  void at(Time when, std::function<void()> task);

 private:
  void run();

  Mutex mutex_;
  CondVar changed_;
  std::map<Time, std::vector<std::function<void()>>> slots_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace keyagent::net
