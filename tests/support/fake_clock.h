// SPDX-License-Identifier: Apache-2.0
#pragma once
// Time that a test moves.

#include <atomic>
#include <chrono>

#include "agent/base/clock.h"

namespace keyagent::test {

// Thread-safe. Starts at 2026-01-01T00:00:00Z.
class FakeClock final : public Clock {
 public:
  WallTime now() const override { return WallTime{} + std::chrono::milliseconds(wall_ms_.load()); }
  SteadyTime now_steady() const override {
    return SteadyTime{} + std::chrono::milliseconds(steady_ms_.load());
  }
  // Both clocks.
  void advance(std::chrono::milliseconds by) {
    wall_ms_ += by.count();
    steady_ms_ += by.count();
  }
  // The wall clock jumps, the steady one does not.
  void set(WallTime to) {
    wall_ms_ = std::chrono::duration_cast<std::chrono::milliseconds>(to.time_since_epoch()).count();
  }

 private:
  std::atomic<long long> wall_ms_{1767225600000};
  std::atomic<long long> steady_ms_{1000000};
};

}  // namespace keyagent::test
