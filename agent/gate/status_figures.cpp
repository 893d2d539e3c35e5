// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/status_figures.h"

#include "agent/gate/operation.h"

namespace keyagent::gate {

StatusFigures SampledFigures::live(const State& state) {
  const auto& counters = state.counters;
  return {state.services.vault.token().status(),
          state.services.audit.size(),
          counters.requests,
          counters.refused,
          counters.failed,
          counters.queued};
}

StatusFigures SampledFigures::sampled(const State& state) {
  const MutexLock lock(mutex_);
  const auto now = state.services.clock.now_steady();
  if (!figures_ || now - taken_ >= kInterval) {
    figures_ = live(state);
    taken_ = now;
  }
  return *figures_;
}

}  // namespace keyagent::gate
