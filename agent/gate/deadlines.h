// SPDX-License-Identifier: Apache-2.0
#pragma once
// Deadlines of the requests that are inside the token or wait for it.

#include <chrono>
#include <functional>
#include <list>
#include <memory>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent::gate {

// Calls what is late, once. Thread-safe. One timer entry serves all requests and is armed only
// while there are any: an entry a request would keep each of them alive until its deadline.
// A request is called late at most 20 ms after its deadline.
class Deadlines : public std::enable_shared_from_this<Deadlines> {
 public:
  using Timer = std::function<void(SteadyTime, std::function<void()>)>;
  struct Entry {
    SteadyTime when;
    std::function<void()> late;
  };
  using Handle = std::list<Entry>::iterator;

  Deadlines(const Clock& clock, Timer timer) : clock_(clock), timer_(std::move(timer)) {}

  Handle add(SteadyTime when, std::function<void()> late);
  // Whether it was called or not. After this `late` is not called anymore, unless it runs now.
  void remove(Handle handle);
  // No call begins after this has returned.
  void stop();

 private:
  void arm() REQUIRES(mutex_);
  void sweep();

  const Clock& clock_;
  const Timer timer_;
  Mutex mutex_;
  std::list<Entry> entries_ GUARDED_BY(mutex_);
  bool armed_ GUARDED_BY(mutex_) = false, stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace keyagent::gate
