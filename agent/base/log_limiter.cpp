// SPDX-License-Identifier: Apache-2.0
#include "agent/base/log_limiter.h"

#include <utility>

namespace keyagent {

namespace {
constexpr std::size_t kMaxTopics = 1024;
}

std::optional<std::uint64_t> LogLimiter::admit(const std::string& topic) {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  if (topics_.size() >= kMaxTopics && !topics_.contains(topic)) {
    std::erase_if(topics_, [&](const auto& entry) {
      return now - entry.second.last >= interval_ && entry.second.withheld == 0;
    });
  }
  const bool room = topics_.size() < kMaxTopics || topics_.contains(topic);
  const auto [entry, is_new] = topics_.try_emplace(room ? topic : "", Topic{now, 0});
  Topic& seen = entry->second;
  if (!is_new && now - seen.last < interval_) {
    ++seen.withheld;
    return std::nullopt;
  }
  seen.last = now;
  return std::exchange(seen.withheld, 0);
}

}  // namespace keyagent
