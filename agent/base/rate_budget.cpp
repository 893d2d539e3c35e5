// SPDX-License-Identifier: Apache-2.0
#include "agent/base/rate_budget.h"

#include <algorithm>

namespace keyagent {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

RateBudget::RateBudget(const Clock& clock, Limits limits) : clock_(clock), limits_(limits) {}

nanoseconds RateBudget::tokens(std::uint64_t count) const {
  return nanoseconds(limits_.refill) * static_cast<std::int64_t>(count);
}

void RateBudget::set_full_at(std::string_view principal, Bucket& bucket, SteadyTime full_at) {
  if (&bucket != &shared_) {
    auto place = by_fullness_.extract({bucket.full_at, std::string(principal)});
    place.value().first = full_at;
    by_fullness_.insert(std::move(place));
  }
  bucket.full_at = full_at;
}

RateBudget::Bucket& RateBudget::bucket(std::string_view principal, SteadyTime now) {
  if (const auto found = buckets_.find(principal); found != buckets_.end()) return found->second;
  if (buckets_.size() >= limits_.max_principals) {
    const auto fullest = by_fullness_.begin();
    if (fullest->first - now > tokens(limits_.burst - 1)) return shared_;  // it has no token
    const auto gone = buckets_.find(fullest->second);
    forgotten_refusals_ += gone->second.refused;
    buckets_.erase(gone);
    by_fullness_.erase(fullest);
  }
  by_fullness_.emplace(now, principal);
  return buckets_.emplace(principal, Bucket{now}).first->second;
}

RateBudget::Decision RateBudget::take(std::string_view principal, std::uint32_t cost) {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  Bucket& bucket = this->bucket(principal, now);
  const SteadyTime after = std::max(now, bucket.full_at) + tokens(cost);
  const nanoseconds excess = after - now - tokens(limits_.burst);
  if (excess > nanoseconds(0))
    return {.allowed = false,
            .refused = ++bucket.refused,
            .retry_after = std::chrono::ceil<milliseconds>(excess)};
  set_full_at(principal, bucket, after);
  return {.allowed = true, .refused = bucket.refused};
}

bool RateBudget::has(std::string_view principal, std::uint32_t cost) const {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  const auto found = buckets_.find(principal);
  SteadyTime full_at = now;
  if (found != buckets_.end()) {
    full_at = found->second.full_at;
  } else if (buckets_.size() >= limits_.max_principals &&
             by_fullness_.begin()->first - now > tokens(limits_.burst - 1)) {
    full_at = shared_.full_at;
  }
  return std::max(now, full_at) + tokens(cost) - now <= tokens(limits_.burst);
}

void RateBudget::charge(std::string_view principal, std::uint32_t cost) {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  Bucket& bucket = this->bucket(principal, now);
  set_full_at(principal, bucket,
              std::min(std::max(now, bucket.full_at) + tokens(cost),
                       now + tokens(std::uint64_t{2} * limits_.burst)));
}

void RateBudget::refund(std::string_view principal, std::uint32_t cost) {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  const auto found = buckets_.find(principal);
  if (found == buckets_.end()) return;
  set_full_at(principal, found->second, std::max(now, found->second.full_at - tokens(cost)));
}

std::vector<RateBudget::Refusals> RateBudget::take_refusals() {
  const MutexLock lock(mutex_);
  std::vector<Refusals> refusals;
  for (auto& [principal, bucket] : buckets_) {
    if (bucket.refused > 0) refusals.push_back({principal, std::exchange(bucket.refused, 0)});
  }
  const auto others = std::exchange(shared_.refused, 0) + std::exchange(forgotten_refusals_, 0);
  if (others > 0) refusals.push_back({"(others)", others});
  return refusals;
}

std::size_t RateBudget::principals() const {
  const MutexLock lock(mutex_);
  return buckets_.size();
}

RateBudget::Limits RateBudget::limits() const {
  const MutexLock lock(mutex_);
  return limits_;
}

void RateBudget::set_limits(const Limits& limits) {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  const auto before = limits_.refill;
  limits_ = limits;
  // A bucket is a time: as many tokens are missing as before.
  const auto rescaled = [&](const Bucket& bucket) {
    const nanoseconds missing = std::max(nanoseconds(bucket.full_at - now), nanoseconds(0));
    const double tokens_missing =
        static_cast<double>(missing.count()) / static_cast<double>(nanoseconds(before).count());
    return now + nanoseconds(static_cast<std::int64_t>(
                     tokens_missing * static_cast<double>(nanoseconds(limits.refill).count())));
  };
  shared_.full_at = rescaled(shared_);
  by_fullness_.clear();
  for (auto& [principal, bucket] : buckets_) {
    bucket.full_at = rescaled(bucket);
    by_fullness_.emplace(bucket.full_at, principal);
  }
  while (buckets_.size() > limits.max_principals) {
    const auto gone = buckets_.find(by_fullness_.begin()->second);
    forgotten_refusals_ += gone->second.refused;
    buckets_.erase(gone);
    by_fullness_.erase(by_fullness_.begin());
  }
}

std::optional<RateBudget::Spender> RateBudget::largest_spender() const {
  const SteadyTime now = clock_.now_steady();
  const MutexLock lock(mutex_);
  if (by_fullness_.empty() || by_fullness_.rbegin()->first <= now) return std::nullopt;
  const auto& [full_at, principal] = *by_fullness_.rbegin();
  const auto spent =
      static_cast<std::uint64_t>((full_at - now + tokens(1) - nanoseconds(1)) / tokens(1));
  return Spender{principal, std::min<std::uint64_t>(spent, limits_.burst)};
}

}  // namespace keyagent
