// SPDX-License-Identifier: Apache-2.0
#pragma once
// Detects a store restored from a backup: agents keep the signed number of its last event and
// return it. A store with a lower number than an agent returns was restored.

#include <string>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/instance/common/host_keys.h"
#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/store/restoration.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe. The store holds the result of the detection, so that all replicas share it.
class Epoch {
 public:
  Epoch(const InstanceConfig& config, HostKeys& keys, store::Store& store, Recorder& recorder,
        const Clock& clock)
      : config_(config), keys_(keys), store_(store), recorder_(recorder), clock_(clock) {}

  // The newest signed number, at most a minute old; empty while it cannot be signed.
  std::string current();
  // Checks the number that an agent received earlier, from any replica. Ignores a number that this
  // instance has not signed.
  void judge(const std::string& agent, const std::string& jws);

  bool restored() { return store_.restoration().find().has_value(); }
  // Throws Error{kKeyState} while it is so.
  void require_accepted();
  // null, or {"epoch","agent","since","last"}.
  Json describe();
  // `epoch`: the number that the administrator reviewed; 0: the current one. Throws
  // Error{kKeyState} when there is nothing to accept, or a greater number has been reported since.
  Json accept(std::int64_t epoch, const std::string& by);

 private:
  void forget();  // the next number is signed again

  const InstanceConfig& config_;
  HostKeys& keys_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  Mutex mutex_;
  bool looked_ GUARDED_BY(mutex_) = false;
  SteadyTime looked_at_ GUARDED_BY(mutex_){};
  std::int64_t number_ GUARDED_BY(mutex_) = -1;
  std::string jws_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::instance
