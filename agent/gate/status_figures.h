// SPDX-License-Identifier: Apache-2.0
#pragma once
// The counters that `status` shows.

#include <cstdint>
#include <optional>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/vault/token_vault.h"

namespace keyagent::gate {

struct State;

struct StatusFigures {
  pkcs11::TokenStatus token;
  std::uint64_t audit_records = 0, requests = 0, refused = 0, failed = 0;
  std::uint32_t queued = 0;
};

// Thread-safe. Counters reveal when an operation ended: a caller that may not administer the agent
// sees them sampled every tenth of a second, too coarse to time failed decryptions (RELIABILITY
// 104).
class SampledFigures {
 public:
  static constexpr std::chrono::milliseconds kInterval{100};

  static StatusFigures live(const State& state);
  StatusFigures sampled(const State& state);

 private:
  Mutex mutex_;
  SteadyTime taken_ GUARDED_BY(mutex_){};
  std::optional<StatusFigures> figures_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::gate
