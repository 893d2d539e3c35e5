#pragma once
// What the instance remembers of what was done with it, and by whom.

#include <string>

#include "agent/store/store.h"

namespace keyagent::instance {

enum class Outcome { kDone, kRefused, kFailed, kAlarm };

// Thread-safe. In the store, and a line in the log.
class Recorder {
 public:
  Recorder(store::Store& store, const Clock& clock) : store_(store), clock_(clock) {}
  // Tells of what was done already. actor: "user ops", "agent web1", "192.0.2.1:4711". Throws what
  // the store throws: whoever asked is told of a failure then, and what was done stays done.
  void record(Outcome outcome, const std::string& actor, const std::string& action,
              const std::string& subject, const std::string& text = {});

 private:
  store::Store& store_;
  const Clock& clock_;
};

}  // namespace keyagent::instance
