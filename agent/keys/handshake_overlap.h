// SPDX-License-Identifier: Apache-2.0
#pragma once
// Auth keys that a rekey has just replaced and that still complete TLS handshakes.

#include <chrono>
#include <map>

#include "agent/base/clock.h"
#include "agent/base/ids.h"
#include "agent/base/mutex.h"

namespace keyagent::keys {

// A server shows the certificate of the key that was active when it last looked: for so long after
// the switch the old key completes the handshakes of that certificate (MISSION T8). In memory, on
// the steady clock: neither a restart nor a wall clock that is set back grants more. Thread-safe.
class HandshakeOverlap {
 public:
  static constexpr std::chrono::minutes kLength{2};
  void begin(const Kid& kid, SteadyTime now);
  void end(const Kid& kid);
  bool covers(const Kid& kid, SteadyTime now) const;

 private:
  mutable Mutex mutex_;
  std::map<Kid, SteadyTime> since_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::keys
