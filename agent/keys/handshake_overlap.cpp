// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/handshake_overlap.h"

namespace keyagent::keys {

void HandshakeOverlap::begin(const Kid& kid, SteadyTime now) {
  const MutexLock lock(mutex_);
  std::erase_if(since_, [&](const auto& each) { return now - each.second >= kLength; });
  since_[kid] = now;
}

void HandshakeOverlap::end(const Kid& kid) {
  const MutexLock lock(mutex_);
  since_.erase(kid);
}

bool HandshakeOverlap::covers(const Kid& kid, SteadyTime now) const {
  const MutexLock lock(mutex_);
  const auto found = since_.find(kid);
  return found != since_.end() && now - found->second < kLength;
}

}  // namespace keyagent::keys
