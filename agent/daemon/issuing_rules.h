// SPDX-License-Identifier: Apache-2.0
#pragma once
// The rules of `issuing` that are in effect: the gate reads them, a reload replaces them.

#include "agent/base/mutex.h"
#include "agent/config/config.h"
#include "agent/gate/issuing.h"

namespace keyagent::daemon {

// Thread-safe.
class IssuingInForce {
 public:
  explicit IssuingInForce(const config::IssuingConfig& from) { set(from); }
  void set(const config::IssuingConfig& from) {
    const MutexLock lock(mutex_);
    rules_ = {from.clients, from.servers, from.max_certificate, from.max_list};
  }
  gate::IssuingRules get() const {
    const MutexLock lock(mutex_);
    return rules_;
  }

 private:
  mutable Mutex mutex_;
  gate::IssuingRules rules_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::daemon
