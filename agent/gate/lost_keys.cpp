// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/lost_keys.h"

namespace keyagent::gate {

void LostKeys::require_not_lost(const std::string& kid, std::uint64_t reconciliations) {
  if (!any_) return;
  const MutexLock lock(mutex_);
  const auto loss = losses_.find(kid);
  if (loss == losses_.end() || loss->second.reconciliations < reconciliations) return;
  const auto now = clock_.now_steady();
  if (now < loss->second.next_try) throw Error(loss->second.error);
  loss->second.next_try = now + kPause;
}

void LostKeys::lost(const std::string& kid, const Error& error, std::uint64_t reconciliations) {
  const MutexLock lock(mutex_);
  losses_.insert_or_assign(kid, Loss{error, clock_.now_steady() + kPause, reconciliations});
  any_ = true;
}

void LostKeys::found(const std::string& kid) {
  if (!any_) return;
  const MutexLock lock(mutex_);
  losses_.erase(kid);
  any_ = !losses_.empty();
}

std::map<std::string, std::string> LostKeys::all(std::uint64_t reconciliations) const {
  std::map<std::string, std::string> result;
  if (!any_) return result;
  const MutexLock lock(mutex_);
  for (const auto& [kid, loss] : losses_)
    if (loss.reconciliations >= reconciliations) result[kid] = loss.error.what();
  return result;
}

}  // namespace keyagent::gate
