// SPDX-License-Identifier: Apache-2.0
#pragma once
// Records events of the instance: what was done, and by which user or agent.

#include <string>

#include "agent/base/rate_budget.h"
#include "agent/store/store.h"

namespace keyagent::instance {

enum class Outcome { kDone, kRefused, kFailed, kAlarm };

// Thread-safe. In the store, and a line in the log. What one source (an address, an agent, a user)
// causes again and again is recorded one by one within its budget, and counted beyond it: a flood
// neither fills the store nor hides the events of others.
class Recorder {
 public:
  // `per_hour`: refusals, failures and alarms of one source and action.
  Recorder(store::Store& store, const Clock& clock, std::int64_t per_hour = 60);
  // Records an action that is done. actor: "user ops", "agent web1", "192.0.2.1:4711". Throws what
  // the store throws: the caller then gets an error, and the action stays done.
  void record(Outcome outcome, const std::string& actor, const std::string& action,
              const std::string& subject, const std::string& text = {});
  // The same for what the source may repeat as often as it likes: also what was done is counted.
  void record_repeatable(Outcome outcome, const std::string& actor, const std::string& action,
                         const std::string& subject, const std::string& text = {});
  // Records what was only counted since the last time: a row for each source, 32 at most.
  void summarize();
  // For changes that the store makes and records in one transaction: the event to record, and the
  // log line for after the commit.
  store::Event make(Outcome outcome, const std::string& actor, const std::string& action,
                    const std::string& subject, const std::string& text = {}) const;
  static void say(const store::Event& event);

 private:
  bool admit(const std::string& actor, const std::string& action, Outcome outcome);
  void add(Outcome outcome, const std::string& actor, const std::string& action,
           const std::string& subject, const std::string& text);

  store::Store& store_;
  const Clock& clock_;
  RateBudget sources_;    // by source, action and outcome
  RateBudget strangers_;  // of all addresses together
};

}  // namespace keyagent::instance
