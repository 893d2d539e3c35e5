// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys that disappeared from the token while the agent runs: logged once, searched for rarely
// (R13).

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/mutex.h"

namespace keyagent::gate {

// Thread-safe. A use that finds its key gone opens the circuit: for kPause every further use is
// answered the same without the token, then one is let through to see whether the key is back.
class LostKeys {
 public:
  static constexpr std::chrono::seconds kPause{5};

  explicit LostKeys(const Clock& clock) : clock_(clock) {}

  // Throws what the last try found, while it is too early for another one. After a comparison of
  // ledger and token it is not: their finding decides.
  void require_not_lost(const std::string& kid, std::uint64_t reconciliations);
  // `reconciliations`: how often ledger and token were compared before.
  void lost(const std::string& kid, const Error& error, std::uint64_t reconciliations);
  void found(const std::string& kid);
  // kid → what the last try found. What was compared since is the comparison's to report.
  std::map<std::string, std::string> all(std::uint64_t reconciliations) const;

 private:
  struct Loss {
    Error error;
    SteadyTime next_try;
    std::uint64_t reconciliations = 0;
  };
  const Clock& clock_;
  std::atomic<bool> any_{false};  // so that a healthy agent takes no lock
  mutable Mutex mutex_;
  std::map<std::string, Loss> losses_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::gate
