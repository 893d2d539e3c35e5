// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who has to wait before the next password is checked, after wrong ones.

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent::instance {

// Thread-safe. Failures are counted per address and name, and per address; never per name alone, so
// that an attacker cannot lock a name for others. After the free failures each one doubles the
// pause, up to `longest`. Memory is bounded: a full table evicts the entry with the fewest
// failures, the least recently used among those, and never a paused one; if all are paused, new
// entries share one.
class LoginThrottle {
 public:
  struct Limits {
    std::uint32_t free_of_name = 3, free_of_address = 10;
    std::chrono::milliseconds first{1000}, longest{std::chrono::minutes(15)};
    std::chrono::milliseconds forgotten{std::chrono::hours(1)};  // after the last failure
    std::size_t max_entries = 8192;                              // REQUIRES: at least 1
  };
  explicit LoginThrottle(const Clock& clock) : LoginThrottle(clock, Limits()) {}
  LoginThrottle(const Clock& clock, const Limits& limits) : clock_(clock), limits_(limits) {}

  // How long this address has to wait with this name; zero: it may try now.
  std::chrono::milliseconds pause(const std::string& address, const std::string& name) const;
  void failed(const std::string& address, const std::string& name);
  // The right password: the failures of this address with this name are forgotten, those of the
  // address stay, or one account would buy an attacker guesses at others.
  void succeeded(const std::string& address, const std::string& name);
  bool has_failures(const std::string& address) const;
  std::size_t entries() const;

 private:
  using Key = std::pair<std::string, std::string>;  // address and name; no name: the address
  struct Entry {
    std::uint32_t failures = 0;
    SteadyTime until{}, last{};
  };
  void count(const Key& key, std::uint32_t free) REQUIRES(mutex_);
  Entry& entry(const Key& key) REQUIRES(mutex_);
  SteadyTime until(const Key& key, SteadyTime now) const REQUIRES(mutex_);

  const Clock& clock_;
  const Limits limits_;
  mutable Mutex mutex_;
  std::map<Key, Entry> entries_ GUARDED_BY(mutex_);
  Entry shared_ GUARDED_BY(mutex_);  // of newcomers while all entries are paused
};

}  // namespace keyagent::instance
