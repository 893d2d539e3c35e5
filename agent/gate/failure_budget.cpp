// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/failure_budget.h"

#include <algorithm>

namespace keyagent::gate {

bool FailureBudget::is_strained(const std::string& kid, SteadyTime now) const {
  const auto key = keys_.find(kid);
  return key != keys_.end() && current(key->second, now) && key->second.failures >= kCeiling * max_;
}

std::size_t FailureBudget::allowance(const std::string& kid, SteadyTime now) const {
  return is_strained(kid, now) ? std::max<std::size_t>(1, max_ / kStrainedShare) : max_;
}

FailureBudget::Effect FailureBudget::count_failure(const std::string& caller,
                                                   const std::string& kid) {
  const MutexLock lock(mutex_);
  const auto now = clock_.now_steady();
  if (callers_.size() >= kMaxCallers && !callers_.contains({kid, caller})) make_room(now);
  auto& mine = callers_.try_emplace({kid, caller}, Count{now, 0}).first->second;
  if (!current(mine, now)) mine = {now, 0};
  auto& all = keys_.try_emplace(kid, Count{now, 0}).first->second;
  if (!current(all, now)) all = {now, 0};
  const bool was_strained = is_strained(kid, now);
  ++mine.failures;
  // Requests that ran at once with the last one are not held against the key.
  if (mine.failures <= max_) ++all.failures;
  if (!was_strained && is_strained(kid, now)) return Effect::kStrained;
  return mine.failures == allowance(kid, now) ? Effect::kPaused : Effect::kNone;
}

std::optional<SteadyTime> FailureBudget::paused_until(const std::string& caller,
                                                      const std::string& kid) const {
  const MutexLock lock(mutex_);
  const auto now = clock_.now_steady();
  const auto mine = callers_.find({kid, caller});
  if (mine == callers_.end() || !current(mine->second, now) ||
      mine->second.failures < allowance(kid, now))
    return std::nullopt;
  return mine->second.since + kDay;
}

// What is over goes first, then those who have failed least; never one who is paused, while
// another one is there.
void FailureBudget::make_room(SteadyTime now) {
  std::erase_if(callers_, [&](const auto& each) { return !current(each.second, now); });
  if (callers_.size() < kMaxCallers) return;
  const auto least = std::min_element(
      callers_.begin(), callers_.end(),
      [](const auto& a, const auto& b) { return a.second.failures < b.second.failures; });
  if (const auto few = least->second.failures; few < max_) {
    std::erase_if(callers_, [few](const auto& each) { return each.second.failures <= few; });
  } else {
    callers_.erase(least);
  }
}

std::size_t FailureBudget::max() const {
  const MutexLock lock(mutex_);
  return max_;
}

void FailureBudget::reset(std::size_t max) {
  const MutexLock lock(mutex_);
  callers_.clear();
  keys_.clear();
  max_ = max;
}

std::vector<FailureBudget::Pause> FailureBudget::pauses() const {
  const MutexLock lock(mutex_);
  const auto now = clock_.now_steady();
  std::vector<Pause> result;
  for (const auto& [name, count] : callers_) {
    if (current(count, now) && count.failures >= allowance(name.first, now))
      result.push_back({name.second, name.first, count.failures, count.since + kDay});
  }
  return result;
}

std::map<std::string, SteadyTime> FailureBudget::strained() const {
  const MutexLock lock(mutex_);
  const auto now = clock_.now_steady();
  std::map<std::string, SteadyTime> result;
  for (const auto& [kid, count] : keys_) {
    if (is_strained(kid, now)) result[kid] = count.since + kDay;
  }
  return result;
}

}  // namespace keyagent::gate
