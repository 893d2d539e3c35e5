// SPDX-License-Identifier: Apache-2.0
#pragma once
// An alarm for each limit that is used to 80 %.

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/limit_usage.h"
#include "agent/keys/rekey_runner.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::daemon {

// Not thread-safe.
class LimitAlarms {
 public:
  explicit LimitAlarms(keys::EventSink tell) : tell_(std::move(tell)) {}
  // One event a limit, and the next only after it was below 70 %.
  void check(const std::vector<LimitUsage>& usage);

 private:
  const keys::EventSink tell_;
  std::set<std::string> high_;
};

// For doctor: those that are used to 80 %.
std::vector<wire::Diagnosis> diagnose_limits(const std::vector<LimitUsage>& usage);

}  // namespace keyagent::daemon
