// SPDX-License-Identifier: Apache-2.0
#pragma once
// Time's part in the life of keys: rekeys that are due, keys that idle, warnings before. One look
// does what is due now; the daemon looks once a second.

#include <map>
#include <set>
#include <string>

#include "agent/base/mutex.h"
#include "agent/keys/clock_watch.h"
#include "agent/keys/rekey_runner.h"

namespace keyagent::keys {

// Not thread-safe, except for methods marked so.
class Scheduler {
 public:
  struct Options {
    const Clock* clock = nullptr;      // never null
    std::function<Periods()> periods;  // the current ones
    EventSink tell;
  };
  Scheduler(KeyStore& keys, RekeyRunner& runner, Options options);

  // Continues rekeys in progress and begins due ones. While the clock is not trusted, no rekey
  // begins and no drain continues. Throws token and ledger errors; the next call retries.
  void look();
  // Why the clock is not trusted; empty when it is. Thread-safe.
  std::string clock_fault() const;
  // An administrator confirms that the clock is right. Thread-safe.
  void accept_clock();
  // Puts on the disk what is otherwise written once an hour.
  void save();

 private:
  void watch_clock();
  void begin_due();
  void handle(const Due& due);
  void say_daily(const Due& due, KeyEvent::Weight weight, const std::string& what);

  KeyStore& keys_;
  RekeyRunner& runner_;
  const Options options_;
  mutable Mutex mutex_;
  ClockWatch watch_ GUARDED_BY(mutex_);
  Span believed_{0};  // since the last run
  SteadyTime next_due_{}, next_save_{};
  std::string told_fault_;
  // By kid and kind of news.
  std::map<std::pair<Kid, std::string>, std::pair<std::string, SteadyTime>> said_;
};

}  // namespace keyagent::keys
