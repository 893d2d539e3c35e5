// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/refusals.h"

#include <string>
#include <utility>

#include "agent/base/log.h"

namespace keyagent::gate {
namespace {

constexpr const char* kOthers = "(others)";

RateBudget::Limits budget_of(const RefusalLimits& limits) {
  RateBudget::Limits out;
  out.burst = limits.burst;
  out.refill = std::chrono::milliseconds(std::chrono::minutes(1)) / limits.per_minute;
  out.max_principals = limits.callers;
  return out;
}

}  // namespace

Refusals::Refusals(audit::AuditLog& audit, const Clock& clock, Timer timer,
                   const RefusalLimits& limits)
    : audit_(audit),
      clock_(clock),
      timer_(std::move(timer)),
      budget_(clock, budget_of(limits)),
      max_callers_(limits.callers) {}

void Refusals::set_limits(const RefusalLimits& limits) {
  budget_.set_limits(budget_of(limits));
  const MutexLock lock(mutex_);
  max_callers_ = limits.callers;
}

std::vector<LimitUsage> Refusals::usage() const {
  LimitUsage callers;
  callers.limit = "limits.refusal-callers";
  callers.cure = "keyagent audit tail shows who is refused; raise the limit if they are in order";
  {
    const MutexLock lock(mutex_);
    callers.used = counted_.size();
    callers.max = max_callers_;
  }
  std::vector<LimitUsage> out{callers};
  if (const auto spender = budget_.largest_spender()) {
    out.push_back({"limits.refusal-records", spender->principal, spender->spent,
                   budget_.limits().burst,
                   "keyagent audit tail shows what it is refused: correct the program or the "
                   "policy; beyond the limit its refusals are only counted",
                   false});
  }
  return out;
}

void Refusals::submit(const std::string& caller, audit::Event event,
                      std::function<void(bool)> answer) {
  if (!budget_.take(caller)) {
    count(caller, event);
    return answer(true);
  }
  MutexLock lock(mutex_);
  if (waiting_.size() >= kMaxWaiting) {
    lock.unlock();
    count(caller, event);
    return answer(true);
  }
  waiting_.push_back({std::move(event), std::move(answer)});
  if (writing_) return;
  writing_ = true;
  while (!waiting_.empty()) {
    std::vector<Waiting> batch = std::exchange(waiting_, {});
    lock.unlock();
    write(batch);
    lock.lock();
  }
  writing_ = false;
}

bool Refusals::note(const std::string& caller, audit::Event event) {
  if (!budget_.take(caller)) {
    count(caller, event);
    return true;
  }
  audit_.record(std::move(event));
  return false;
}

void Refusals::write(std::vector<Waiting>& batch) {
  try {
    for (std::size_t i = 0; i + 1 < batch.size(); ++i) audit_.record(batch[i].event);
    audit_.record_now(batch.back().event);
  } catch (const std::exception& error) {
    log_error("gate",
              std::string("a refusal could not be written to the audit log: ") + error.what());
  }
  for (auto& waiting : batch) waiting.answer(false);
}

void Refusals::count(const std::string& caller, const audit::Event& event) {
  const WallTime now = clock_.now();
  // "refused: sign" of a refusal, the operation's name of another failure.
  constexpr std::string_view kRefused = "refused: ";
  const std::string what =
      event.detail.rfind(kRefused, 0) == 0 ? event.detail.substr(kRefused.size()) : event.what;
  const std::string kind = what + " " + event.outcome;
  const MutexLock lock(mutex_);
  const bool room = counted_.size() < max_callers_ || counted_.contains(caller);
  auto& counted = counted_[room ? caller : kOthers];
  if (counted.count == 0) {
    counted.who = room ? event.who : kOthers;
    counted.first = now;
  }
  counted.last = now;
  counted.pid = room ? event.pid : 0;
  ++counted.count;
  const bool known = counted.kinds.size() < kMaxKinds || counted.kinds.contains(kind);
  ++counted.kinds[known ? kind : "other"];
  arm();
}

void Refusals::arm() {
  if (armed_) return;
  armed_ = true;
  timer_(clock_.now_steady() + kInterval, [self = weak_from_this()] {
    if (const auto kept = self.lock()) kept->flush();
  });
}

audit::Event Refusals::summary(const Counted& counted) {
  audit::Event event;
  event.what = "refused.summary";
  event.who = counted.who;
  event.pid = counted.pid;
  event.outcome = "DENIED";
  event.detail = std::to_string(counted.count) + " more from " + rfc3339(counted.first) + " to " +
                 rfc3339(counted.last) + ":";
  const char* before = " ";
  for (const auto& [kind, count] : counted.kinds) {
    event.detail += before + kind + " " + std::to_string(count);
    before = ", ";
  }
  return event;
}

void Refusals::flush() {
  std::map<std::string, Counted> counted;
  {
    const MutexLock lock(mutex_);
    counted = std::exchange(counted_, {});
    armed_ = false;
  }
  try {
    for (const auto& [caller, each] : counted) audit_.record(summary(each));
  } catch (const std::exception& error) {
    log_error("gate", std::string("a summary of refusals could not be written to the audit log: ") +
                          error.what());
  }
}

}  // namespace keyagent::gate
