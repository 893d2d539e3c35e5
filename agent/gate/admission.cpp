// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/admission.h"

#include <algorithm>
#include <utility>

namespace keyagent::gate {

Admission::Answer Admission::submit(Job job) {
  std::optional<Job> loser;
  std::optional<Job> now;
  {
    const MutexLock lock(mutex_);
    if (running_ >= slots_ || !may_run(job)) {
      if (waiting_ >= queue_) drop_abandoned();
      if (waiting_ >= queue_) {
        loser = displace(job.uid);
        if (!loser) return Answer::kBusy;
      }
      auto& mine = jobs_[job.uid];
      if (mine.empty()) turns_.push_back(job.uid);
      mine.push_back(std::move(job));
      ++waiting_;
    } else {
      begin(job);
      now.emplace(std::move(job));
    }
  }
  if (loser && loser->displaced) loser->displaced();
  if (!now) return Answer::kQueued;
  work(*std::move(now));
  return Answer::kRan;
}

bool Admission::may_run(const Job& job) const {
  if (!job.slow) return true;
  const auto slow = slow_.find(job.uid);
  return slow == slow_.end() || slow->second < std::max<std::size_t>(1, slots_ / 2);
}

void Admission::begin(const Job& job) {
  ++running_;
  if (job.slow) ++slow_[job.uid];
}

void Admission::end(std::uint32_t uid, bool slow) {
  --running_;
  if (slow && --slow_[uid] == 0) slow_.erase(uid);
}

// No job waits while a slot is free for its uid: a slot is released only under the lock that found
// no such job, and a uid at its limit of slow jobs has a running one that will check the queue
// again.
void Admission::work(Job job) {
  while (true) {
    if (!job.abandoned || !*job.abandoned) job.run();
    const std::uint32_t uid = job.uid;
    const bool slow = job.slow;
    job = {};
    const MutexLock lock(mutex_);
    end(uid, slow);
    if (!take_next(job)) return;
    begin(job);
  }
}

bool Admission::take_next(Job& job) {
  const auto can_run = [this](std::uint32_t uid)
                           REQUIRES(mutex_) { return may_run(jobs_.find(uid)->second.front()); };
  const auto next = std::find_if(turns_.begin(), turns_.end(), can_run);
  if (next == turns_.end()) return false;
  const std::uint32_t uid = *next;
  turns_.erase(next);
  turns_.push_back(uid);
  const auto mine = jobs_.find(uid);
  job = std::move(mine->second.front());
  mine->second.pop_front();
  --waiting_;
  remove_if_empty(mine);
  return true;
}

void Admission::remove_if_empty(Jobs::iterator jobs) {
  if (!jobs->second.empty()) return;
  turns_.erase(std::find(turns_.begin(), turns_.end(), jobs->first));
  jobs_.erase(jobs);
}

void Admission::drop_abandoned() {
  for (auto mine = jobs_.begin(); mine != jobs_.end();) {
    waiting_ -=
        std::erase_if(mine->second, [](const Job& job) { return job.abandoned && *job.abandoned; });
    remove_if_empty(mine++);
  }
}

// The newest job of the uid with the most, if that has more than `by` would then have.
std::optional<Admission::Job> Admission::displace(std::uint32_t by) {
  const auto most = std::max_element(jobs_.begin(), jobs_.end(), [](const auto& a, const auto& b) {
    return a.second.size() < b.second.size();
  });
  const auto mine = jobs_.find(by);
  const std::size_t own = mine == jobs_.end() ? 0 : mine->second.size();
  if (most == jobs_.end() || most->second.size() <= own + 1) return std::nullopt;
  Job loser = std::move(most->second.back());
  most->second.pop_back();
  --waiting_;
  remove_if_empty(most);
  return loser;
}

std::size_t Admission::running() const {
  const MutexLock lock(mutex_);
  return running_;
}

std::size_t Admission::waiting() const {
  const MutexLock lock(mutex_);
  return waiting_;
}

}  // namespace keyagent::gate
