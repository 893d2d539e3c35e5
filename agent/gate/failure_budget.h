// SPDX-License-Identifier: Apache-2.0
#pragma once
// How often opening may fail before a caller is paused with a key (RELIABILITY 107, 150).

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent::gate {

// Thread-safe. The best published padding oracle attacks need 3,800 answers (Bardou et al. 2012); a
// caller that has had `max` failures with a key within a day opens nothing more with it until that
// day is over or reset(). No one else is paused for that.
// A key that failed 8 x `max` times within a day, so for at least eight callers, is strained: for
// the rest of its day a caller is paused after max / 64 failures. Who has none is never paused.
class FailureBudget {
 public:
  static constexpr std::chrono::hours kDay{24};
  static constexpr std::size_t kCeiling = 8, kStrainedShare = 64;

  enum class Effect {
    kNone,
    kPaused,    // this failure paused the caller: the time for an alarm
    kStrained,  // and the key is strained from now on
  };
  struct Pause {
    std::string caller, kid;
    std::size_t failures = 0;
    SteadyTime until;
  };

  FailureBudget(const Clock& clock, std::size_t max) : clock_(clock), max_(max) {}

  // `caller`: who is paused when it is too much: "uid 1000", "credential mail, version 3".
  Effect count_failure(const std::string& caller, const std::string& kid);
  std::optional<SteadyTime> paused_until(const std::string& caller, const std::string& kid) const;
  std::size_t max() const;
  // Everything is forgiven; from now on `max` a day.
  void reset(std::size_t max);
  std::vector<Pause> pauses() const;
  // Keys that are strained, and until when.
  std::map<std::string, SteadyTime> strained() const;

 private:
  struct Count {
    SteadyTime since;
    std::size_t failures = 0;
  };
  using Caller = std::pair<std::string, std::string>;  // kid, caller

  bool current(const Count& count, SteadyTime now) const { return now - count.since < kDay; }
  bool is_strained(const std::string& kid, SteadyTime now) const REQUIRES(mutex_);
  std::size_t allowance(const std::string& kid, SteadyTime now) const REQUIRES(mutex_);
  void make_room(SteadyTime now) REQUIRES(mutex_);

  static constexpr std::size_t kMaxCallers = 4096;
  const Clock& clock_;
  mutable Mutex mutex_;
  std::size_t max_ GUARDED_BY(mutex_);
  std::map<Caller, Count> callers_ GUARDED_BY(mutex_);
  std::map<std::string, Count> keys_ GUARDED_BY(mutex_);  // kids are our own, so it stays small
};

}  // namespace keyagent::gate
