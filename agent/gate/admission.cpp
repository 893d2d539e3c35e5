#include "agent/gate/admission.h"

#include <algorithm>
#include <utility>

namespace keyagent::gate {

Admission::Answer Admission::submit(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (running_ >= slots_) {
      if (waiting_ >= queue_) drop_abandoned();
      if (waiting_ >= queue_) return Answer::kBusy;
      auto& mine = jobs_[job.uid];
      if (mine.empty()) turns_.push_back(job.uid);
      mine.push_back(std::move(job));
      ++waiting_;
      return Answer::kQueued;
    }
    ++running_;
  }
  work(std::move(job));
  return Answer::kRan;
}

// Nobody waits while a slot is free: a slot is given back only under the lock that finds the queue
// empty.
void Admission::work(Job job) {
  while (true) {
    if (!job.abandoned || !*job.abandoned) job.run();
    job = {};
    const std::lock_guard lock(mutex_);
    if (!take_next(job)) {
      --running_;
      return;
    }
  }
}

bool Admission::take_next(Job& job) {
  if (turns_.empty()) return false;
  const std::uint32_t uid = turns_.front();
  turns_.pop_front();
  const auto mine = jobs_.find(uid);
  job = std::move(mine->second.front());
  mine->second.pop_front();
  --waiting_;
  if (mine->second.empty()) {
    jobs_.erase(mine);
  } else {
    turns_.push_back(uid);
  }
  return true;
}

void Admission::drop_abandoned() {
  for (auto mine = jobs_.begin(); mine != jobs_.end();) {
    waiting_ -=
        std::erase_if(mine->second, [](const Job& job) { return job.abandoned && *job.abandoned; });
    if (!mine->second.empty()) {
      ++mine;
      continue;
    }
    turns_.erase(std::find(turns_.begin(), turns_.end(), mine->first));
    mine = jobs_.erase(mine);
  }
}

std::size_t Admission::running() const {
  const std::lock_guard lock(mutex_);
  return running_;
}

std::size_t Admission::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

}  // namespace keyagent::gate
