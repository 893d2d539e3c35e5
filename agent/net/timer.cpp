// SPDX-License-Identifier: Apache-2.0
#include "agent/net/timer.h"

#include <pthread.h>

#include <utility>

namespace keyagent::net {
namespace {

using namespace std::chrono_literals;
constexpr auto kDistant = 100ms;
constexpr auto kSlot = 16ms;

Timer::Time slot_of(Timer::Time when) {
  if (when - std::chrono::steady_clock::now() < kDistant) return when;
  const auto since = when.time_since_epoch();
  const auto count = (since + kSlot - Timer::Time::duration(1)) / kSlot;
  return Timer::Time(std::chrono::duration_cast<Timer::Time::duration>(count * kSlot));
}

}  // namespace

Timer::Timer() : thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "ka-timer");
}

void Timer::stop() {
  std::map<Time, std::vector<std::function<void()>>> dropped;  // destroyed without the lock
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    dropped.swap(slots_);
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Timer::at(Time when, std::function<void()> task) {
  const Time slot = slot_of(when);
  bool earliest = false;
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    auto [place, fresh] = slots_.try_emplace(slot);
    place->second.push_back(std::move(task));
    earliest = fresh && place == slots_.begin();
  }
  if (earliest) changed_.notify_one();
}

void Timer::run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (slots_.empty()) {
      changed_.wait(mutex_);
    } else if (const Time first = slots_.begin()->first; first > std::chrono::steady_clock::now()) {
      changed_.wait_until(mutex_, first);
    } else {
      auto due = slots_.extract(slots_.begin());
      lock.unlock();
      for (auto& task : due.mapped()) task();
      due.mapped().clear();
      lock.lock();
    }
  }
}

}  // namespace keyagent::net
