// SPDX-License-Identifier: Apache-2.0
#pragma once
// Records of what was refused or failed: on disk before the answer, up to a budget of each caller;
// beyond it counted in summary records, so that a flood neither fills the disk nor goes unseen.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/base/limit_usage.h"
#include "agent/base/mutex.h"
#include "agent/base/rate_budget.h"

namespace keyagent::gate {

// How many records of refusals and failures a caller may cause, and for how many callers they are
// counted one by one (limits.refusal-… of the configuration).
struct RefusalLimits {
  std::uint32_t burst = 100, per_minute = 6;  // REQUIRES: at least 1
  std::size_t callers = 1024;                 // REQUIRES: at least 1
};

// Thread-safe. One thread at a time waits for the disk, with all refusals that came meanwhile in
// one sync; so a flood of forbidden requests holds one of the agent's threads, never all.
// A caller has `burst` records at once and `per_minute` more. What is over that is counted by
// caller and operation, and written as one record a caller and kInterval (RELIABILITY 148).
class Refusals : public std::enable_shared_from_this<Refusals> {
 public:
  using Timer = std::function<void(SteadyTime, std::function<void()>)>;
  static constexpr std::chrono::seconds kInterval{60};

  Refusals(audit::AuditLog& audit, const Clock& clock, Timer timer,
           const RefusalLimits& limits = {});
  void set_limits(const RefusalLimits& limits);
  // The caller with the fewest records left, and callers that are counted now.
  std::vector<LimitUsage> usage() const;
  // After so long a caller that is over its budget has a record again.
  std::chrono::milliseconds refill() const { return budget_.limits().refill; }

  // `answer` is called when the event is synced or counted, on this or another thread; also when
  // the log cannot be written: a refusal is safe without it. `flooding`: the caller is over its
  // budget, and the answer may take its time. Must not throw.
  void submit(const std::string& caller, audit::Event event,
              std::function<void(bool flooding)> answer);
  // The same for a failure whose record is collected with those of a few milliseconds. True: the
  // caller is over its budget. Throws Error{kInternal} when the log cannot be written.
  bool note(const std::string& caller, audit::Event event);
  // For a change that was recorded as begun and then failed. It may make the debt of a caller.
  void charge(const std::string& caller) { budget_.charge(caller); }
  bool over_budget(const std::string& caller) const { return !budget_.has(caller); }
  // Writes the summaries of what was counted so far.
  void flush();

 private:
  struct Waiting {
    audit::Event event;
    std::function<void(bool)> answer;
  };
  struct Counted {
    std::string who;
    std::int32_t pid = 0;  // of the last one
    WallTime first, last;
    std::uint64_t count = 0;
    std::map<std::string, std::uint64_t> kinds;  // "sign DENIED" → count
  };
  void count(const std::string& caller, const audit::Event& event);
  void write(std::vector<Waiting>& batch);
  static audit::Event summary(const Counted& counted);
  void arm() REQUIRES(mutex_);

  static constexpr std::size_t kMaxWaiting = 4096, kMaxKinds = 64;
  audit::AuditLog& audit_;
  const Clock& clock_;
  const Timer timer_;
  RateBudget budget_;
  mutable Mutex mutex_;
  std::size_t max_callers_ GUARDED_BY(mutex_);
  bool writing_ GUARDED_BY(mutex_) = false;
  std::vector<Waiting> waiting_ GUARDED_BY(mutex_);
  std::map<std::string, Counted> counted_ GUARDED_BY(mutex_);  // by caller
  bool armed_ GUARDED_BY(mutex_) = false;
};

}  // namespace keyagent::gate
