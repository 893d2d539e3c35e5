// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/deadlines.h"

#include <utility>
#include <vector>

namespace keyagent::gate {

using namespace std::chrono_literals;

Deadlines::Handle Deadlines::add(SteadyTime when, std::function<void()> late) {
  const MutexLock lock(mutex_);
  entries_.push_back({when, std::move(late)});
  arm();
  return std::prev(entries_.end());
}

void Deadlines::remove(Handle handle) {
  Entry gone;  // what it holds is released without the lock
  const MutexLock lock(mutex_);
  gone = std::move(*handle);
  entries_.erase(handle);
}

void Deadlines::stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
}

void Deadlines::arm() {
  if (armed_ || stopped_ || entries_.empty()) return;
  armed_ = true;
  timer_(clock_.now_steady() + 20ms, [self = weak_from_this()] {
    if (const auto kept = self.lock()) kept->sweep();
  });
}

void Deadlines::sweep() {
  std::vector<std::function<void()>> late;
  {
    const MutexLock lock(mutex_);
    armed_ = false;
    if (stopped_) return;
    const auto now = clock_.now_steady();
    for (auto& entry : entries_) {
      if (entry.late && entry.when <= now) late.push_back(std::exchange(entry.late, nullptr));
    }
    arm();
  }
  for (const auto& call : late) call();
}

}  // namespace keyagent::gate
