// SPDX-License-Identifier: Apache-2.0
#pragma once
// Does the wall clock go evenly? A jump must never expire or destroy a key (RELIABILITY 131). Pure.

#include <chrono>
#include <string>

#include "agent/base/clock.h"

namespace keyagent::keys {

// The ledger's note of the newest time at which the clock was trusted.
inline constexpr const char* kSeenNote = "clock/seen";

// Compares wall time with steady time from look to look. Not thread-safe.
class ClockWatch {
 public:
  // `last_seen`: the wall time that an earlier run has noted last; the epoch of time: none.
  ClockWatch(WallTime last_seen, WallTime now, SteadyTime steady);

  // Call it often. Returns the trusted elapsed time: at most that of the steady clock, zero while
  // the clock is not trusted.
  std::chrono::milliseconds look(WallTime now, SteadyTime steady);

  // False after a jump of more than kTolerance, or a start at a time that cannot be right, until
  // the clocks went evenly for kSettle, or accept().
  bool trusted() const { return fault_.empty(); }
  // Why not; empty when trusted.
  const std::string& fault() const { return fault_; }
  // An administrator confirms that the clock is right.
  void accept() { fault_.clear(); }

  static constexpr std::chrono::milliseconds kTolerance = std::chrono::minutes(5);
  static constexpr std::chrono::milliseconds kSettle = std::chrono::hours(24);
  // An agent that was off for longer waits for confirmation before it acts on the date.
  static constexpr std::chrono::milliseconds kLongestOff = std::chrono::hours(24 * 30);

 private:
  WallTime wall_;
  SteadyTime steady_, even_since_;
  std::string fault_;
};

}  // namespace keyagent::keys
