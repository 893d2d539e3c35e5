// SPDX-License-Identifier: Apache-2.0
#pragma once
// Token buckets, one per principal: a flooding caller exhausts only its own budget.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent {

// Thread-safe. A principal is any name: "uid 1000", "agent web1", principal_of_address(). It may
// spend `burst` tokens at once; one is refilled each `refill`. Memory is bounded: at most
// `max_principals` buckets. When all are in use, a new principal replaces the fullest bucket (least
// recently used first), never an exhausted one: a flooder cannot have its own bucket evicted. When
// every bucket is exhausted, new principals share one more.
class RateBudget {
 public:
  struct Limits {
    std::uint32_t burst = 10;                // REQUIRES: at least 1
    std::chrono::milliseconds refill{1000};  // REQUIRES: positive
    std::size_t max_principals = 4096;       // REQUIRES: at least 1
  };
  struct Decision {
    bool allowed = false;
    // Refusals of this principal since take_refusals(), this one included. 1: the first, the moment
    // for a record or an alarm; the rest is for the summary.
    std::uint64_t refused = 0;
    std::chrono::milliseconds retry_after{0};  // when refused: the first moment that may succeed
    explicit operator bool() const { return allowed; }
  };
  struct Refusals {
    std::string principal;  // "(others)" for those that share a bucket or were forgotten
    std::uint64_t count = 0;
  };

  RateBudget(const Clock& clock, Limits limits);

  // Takes `cost` tokens; or takes none, counts the refusal and returns the time to wait.
  Decision take(std::string_view principal, std::uint32_t cost = 1);
  // Whether take() would succeed. Takes and counts nothing. For work that is charged only when it
  // fails.
  bool has(std::string_view principal, std::uint32_t cost = 1) const;
  // Takes `cost` tokens although fewer may be left; the debt is one burst at most.
  void charge(std::string_view principal, std::uint32_t cost = 1);
  // Gives tokens back, as far as the principal is still known.
  void refund(std::string_view principal, std::uint32_t cost = 1);

  // What was refused since the last call, for summary records; counting begins again.
  std::vector<Refusals> take_refusals();
  std::size_t principals() const;  // never more than max_principals
  Limits limits() const;
  // Takes effect at once; tokens already spent stay spent.
  void set_limits(const Limits& limits);
  // The principal with the fewest tokens left, and how many it has spent. nullopt: none has spent
  // any.
  struct Spender {
    std::string principal;
    std::uint64_t spent = 0;  // at most `burst`
  };
  std::optional<Spender> largest_spender() const;

 private:
  // A bucket is one time: when it will be full. Full buckets are in the past.
  struct Bucket {
    SteadyTime full_at;
    std::uint64_t refused = 0;
  };
  using Buckets = std::map<std::string, Bucket, std::less<>>;

  std::chrono::nanoseconds tokens(std::uint64_t count) const REQUIRES(mutex_);
  Bucket& bucket(std::string_view principal, SteadyTime now) REQUIRES(mutex_);
  void set_full_at(std::string_view principal, Bucket& bucket, SteadyTime full_at) REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  Limits limits_ GUARDED_BY(mutex_);
  Buckets buckets_ GUARDED_BY(mutex_);
  std::set<std::pair<SteadyTime, std::string>> by_fullness_ GUARDED_BY(mutex_);  // of buckets_
  Bucket shared_ GUARDED_BY(mutex_);  // of newcomers without a place
  std::uint64_t forgotten_refusals_ GUARDED_BY(mutex_) = 0;
};

}  // namespace keyagent
