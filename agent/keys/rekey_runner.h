// SPDX-License-Identifier: Apache-2.0
#pragma once
// Does the effects of keys/rekey's table, one after the other, and continues where a crash stopped
// it.

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/mutex.h"
#include "agent/base/rate_budget.h"
#include "agent/keys/cryptoperiod.h"
#include "agent/keys/key_store.h"

namespace keyagent::keys {

// The party that must have a new public key before it is used: asked when the key has been made
// (kProve), notified when it is active (kSwitched). May block for some seconds.
class Confirmation {
 public:
  enum class Phase { kProve, kSwitched };
  enum class Answer { kConfirmed, kRefused, kLater };
  struct Said {
    Answer answer = Answer::kConfirmed;
    std::string text;  // one line: why not
  };
  virtual ~Confirmation() = default;
  virtual Said ask(Phase phase, const RekeyRecord& rekey, const KeyRecord& old,
                   const KeyRecord& fresh) = 0;
};

// Something that log and audit log must have.
struct KeyEvent {
  enum class Weight { kInfo, kWarning, kAlarm } weight = Weight::kInfo;
  std::string what;  // "rekey.generated", "key.suspend", "rekey.due"
  std::string key, kid, actor, outcome = "ok", detail;
};
using EventSink = std::function<void(const KeyEvent&)>;

// A rekey as people see it.
struct Progress {
  RekeyRecord rekey;
  std::string waits_for;  // why it does not continue now; empty when it does, or is done
  int failures = 0;       // attempts at this step that failed
};

// Thread-safe; run() is one thread's at a time.
class RekeyRunner {
 public:
  struct Options {
    const Clock* clock = nullptr;          // never null
    std::function<Periods()> periods;      // the current ones
    Confirmation* confirmation = nullptr;  // null: the self-test confirms
    EventSink tell;
  };
  RekeyRunner(KeyStore& keys, Options options);

  // Journals it and returns; run() does the rest. What KeyStore::begin_rekey throws.
  RekeyRecord begin(RekeyRequest request, const Cause& cause);
  // Throws Error{kKeyState} after the switch, Error{kUsage} when none is in progress.
  RekeyRecord abort(const KeyName& name, const Cause& cause);

  // Advances every rekey as far as possible. `believed`: the trusted time since the last call,
  // which counts for the drains. Does not throw: failures are logged and retried.
  void run(Span believed);

  std::vector<Progress> progress() const;

 private:
  struct Attempt {
    std::string problem;
    int failures = 0;
    SteadyTime not_before{};
  };
  bool is_its_turn(std::uint64_t id) const;
  void advance(RekeyRecord rekey);
  // The event of the step's effect; nullopt: none yet, the attempt holds the reason.
  std::optional<RekeyRecord> perform(const RekeyRecord& rekey);
  std::optional<RekeyRecord> prove(const RekeyRecord& rekey);
  std::optional<RekeyRecord> announce(const RekeyRecord& rekey);
  std::optional<RekeyRecord> retire(const RekeyRecord& rekey);
  std::string reason_to_keep(const RekeyRecord& rekey) const;
  Confirmation::Said ask(Confirmation::Phase phase, const RekeyRecord& rekey) const;
  RekeyRecord refuse(const RekeyRecord& rekey, const std::string& why);
  void put_off(const RekeyRecord& rekey, const std::string& why, bool failed);
  void tell(const RekeyRecord& rekey, KeyEvent::Weight weight, const std::string& what,
            const std::string& outcome, const std::string& detail) const;
  void drain(const RekeyRecord& rekey, Span believed) REQUIRES(run_mutex_);
  void tell_order_refused(const KeyName& name, const std::string& why);

  KeyStore& keys_;
  const Options options_;
  RateBudget order_alarms_;
  Mutex run_mutex_;
  mutable Mutex mutex_;
  std::map<std::uint64_t, Attempt> attempts_ GUARDED_BY(mutex_);
  std::map<std::uint64_t, Span> unsaved_ GUARDED_BY(run_mutex_);  // drained since it was noted
};

}  // namespace keyagent::keys
