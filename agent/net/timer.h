// SPDX-License-Identifier: Apache-2.0
#pragma once
// Things to be done later, on one thread.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

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

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Time, std::vector<std::function<void()>>> slots_;  // guarded by mutex_
  bool stopping_ = false;                                     // guarded by mutex_
  std::thread thread_;
};

}  // namespace keyagent::net
