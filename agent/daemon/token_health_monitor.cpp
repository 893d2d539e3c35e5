// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/token_health_monitor.h"

namespace keyagent::daemon {

using namespace std::chrono_literals;

void TokenHealthMonitor::start() {
  thread_ = std::thread([this] { run(); });
}

void TokenHealthMonitor::run() {
  MutexLock lock(mutex_);
  while (!changed_.wait_for(mutex_, 1s, [this]() REQUIRES(mutex_) { return ended_; })) {
    lock.unlock();
    std::exception_ptr failure;
    try {
      care_();
    } catch (const std::exception&) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) failure_ = failure;
  }
}

void TokenHealthMonitor::rethrow_failure() {
  const MutexLock lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void TokenHealthMonitor::stop() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace keyagent::daemon
