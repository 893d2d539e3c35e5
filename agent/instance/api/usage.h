// SPDX-License-Identifier: Apache-2.0
#pragma once
// What grows in the store against its limits, and what is forgotten so that it does not.

#include <set>
#include <string>
#include <vector>

#include "agent/base/mutex.h"
#include "agent/instance/common/limits.h"
#include "agent/instance/common/recorder.h"
#include "agent/store/store.h"

namespace keyagent::instance {

struct UsageLine {
  std::string limit;  // as in the configuration
  std::int64_t count = 0, most = 0;
};

// Thread-safe.
class Usage {
 public:
  Usage(const Limits& limits, store::Store& store, Recorder& recorder, const Clock& clock)
      : limits_(limits), store_(store), recorder_(recorder), clock_(clock) {}

  std::vector<UsageLine> read();
  // An alarm for each limit that is used to 80 %, once until it is below 70 % again.
  void check();
  // Events beyond their limits, and what ended long ago.
  void forget();

 private:
  const Limits limits_;
  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  Mutex mutex_;
  std::set<std::string> alarmed_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::instance
