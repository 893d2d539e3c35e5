#pragma once
// How often opening may fail before a key is taken out of it (RELIABILITY 107).

#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>

#include "agent/base/clock.h"

namespace keyagent::gate {

// Thread-safe. The best published padding oracle attacks need 3,800 answers (Bardou et al. 2012);
// a key that has given `most` in a day opens nothing more until the operator has looked and
// reloaded.
class FailureBudget {
 public:
  FailureBudget(const Clock& clock, std::size_t most) : clock_(clock), most_(most) {}

  // True for the one failure that spends the budget: the time for an alarm.
  bool count_failure(const std::string& kid);
  bool spent(const std::string& kid) const;
  std::size_t most() const;
  // Everything is forgiven; from now on `most` a day.
  void reset(std::size_t most);
  std::map<std::string, std::size_t> suspended() const;  // kid → failures

 private:
  struct Count {
    SteadyTime since;
    std::size_t failures = 0;
  };
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::size_t most_;                     // guarded by mutex_
  std::map<std::string, Count> counts_;  // guarded by mutex_; kids are our own, so it stays small
};

}  // namespace keyagent::gate
