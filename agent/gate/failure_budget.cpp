#include "agent/gate/failure_budget.h"

namespace keyagent::gate {

using namespace std::chrono_literals;

bool FailureBudget::count_failure(const std::string& kid) {
  const std::lock_guard lock(mutex_);
  const auto now = clock_.now_steady();
  auto& count = counts_.try_emplace(kid, Count{now, 0}).first->second;
  // A spent budget stays spent: only reset() gives a new day.
  if (count.failures < most_ && now - count.since >= 24h) count = {now, 0};
  return ++count.failures == most_;
}

bool FailureBudget::spent(const std::string& kid) const {
  const std::lock_guard lock(mutex_);
  const auto count = counts_.find(kid);
  return count != counts_.end() && count->second.failures >= most_;
}

std::size_t FailureBudget::most() const {
  const std::lock_guard lock(mutex_);
  return most_;
}

void FailureBudget::reset(std::size_t most) {
  const std::lock_guard lock(mutex_);
  counts_.clear();
  most_ = most;
}

std::map<std::string, std::size_t> FailureBudget::suspended() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::size_t> result;
  for (const auto& [kid, count] : counts_) {
    if (count.failures >= most_) result[kid] = count.failures;
  }
  return result;
}

}  // namespace keyagent::gate
