// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an attacker tried, and what came of it: counted per attack, printed as one line of JSON
// each.

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/bench/measure.h"

namespace keyagent::attack {

// Thread-safe.
class Attempts {
 public:
  explicit Attempts(std::string name) : name_(std::move(name)) {}
  void refused() { ++refused_; }
  // The system gave what it must not give; `what` must not hold a secret.
  void gained(const std::string& what);
  // Runs one attempt: an exception is a refusal, `true` is a gain.
  void attempt(const std::function<bool()>& action);
  const std::string& name() const { return name_; }
  // One line of JSON. Returns the number of gains.
  std::uint64_t print(const std::string& role) const;

 private:
  const std::string name_;
  std::atomic<std::uint64_t> refused_{0}, gained_{0};
  mutable std::mutex mutex_;
  std::string first_gain_, first_refusal_;  // guarded by mutex_
};

// One attack: `run` is called again and again, by `threads` threads, until the time is over. `make`
// builds the state of one thread.
struct Attack {
  std::string name;
  unsigned threads = 1;
  std::function<std::function<void(Attempts&)>()> make;
};

// Runs all attacks side by side for `duration`, prints a line for each. Returns the exit status: 0,
// or 6 when something was gained.
int run_attacks(const std::string& role, std::chrono::seconds duration,
                const std::vector<Attack>& attacks);

// Every later connection to an IPv4 address comes from one of 127.0.0.66 to .69, in turn.
void connect_from_elsewhere();

// The roles. Each returns an exit status.
int local_user(const bench::Arguments& arguments);
int network_stranger(const bench::Arguments& arguments);
int enrolled_agent(const bench::Arguments& arguments);
int instance_process(const bench::Arguments& arguments);
// Not an attacker: uses the agent as its policy allows, and prints success rate and latency.
int owner(const bench::Arguments& arguments);

}  // namespace keyagent::attack
