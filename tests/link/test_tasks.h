// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tasks of a test's instance: the agents' half of the contract, and what an operator does.

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/tls/server.h"

namespace keyagent::test {

struct Submission {
  std::string handler = "deploy", input = "{}", credential = {};
  bool repeatable = false;
  int attempts = 5, seconds = 0;
};

// Thread-safe. Leases end by the clock, and by pass().
class TestTasks {
 public:
  std::string submit(const Submission& wish);  // its id
  void cancel(const std::string& id);          // what runs: at its next word
  void retry(const std::string& id);
  void expire(const std::string& id);  // its lease ends now

  // nullopt: the request is for others.
  std::optional<tls::HttpResponse> serve(const tls::HttpRequest& request);

  std::string state(const std::string& id);
  std::string text(const std::string& id) const;
  std::string result(const std::string& id) const;
  int starts(const std::string& id) const;
  std::vector<std::string> ended() const;  // ids, as their ends were accepted
  int asked() const;                       // how often an agent asked for work
  int keeps(const std::string& id) const;  // how often its lease was kept
  // Lets that much of all leases go by.
  void pass(std::chrono::milliseconds time);

  std::atomic<double> lease_s{60};
  std::atomic<bool> deaf{false};        // answers nothing but BUSY
  std::atomic<bool> lose_start{false};  // it starts, and the agent does not hear of it
  std::atomic<bool> no_ends{false};     // hears of no end

 private:
  struct Task {
    Submission wish;
    std::string state = "queued", lease, outcome, text, result;
    int attempt = 0, starts = 0, keeps = 0;
    bool cancelling = false;
    std::chrono::steady_clock::time_point until;
  };
  // All REQUIRE mutex_.
  void look();
  std::chrono::steady_clock::time_point now() const {
    return std::chrono::steady_clock::now() + passed_;
  }
  void run_out(Task& task);
  tls::HttpResponse take(const std::string& body);
  tls::HttpResponse speak(const std::string& id, const std::string& verb, const std::string& body);

  mutable std::mutex mutex_;
  std::map<std::string, Task> tasks_;  // guarded by mutex_
  std::vector<std::string> order_, ended_;
  int asked_ = 0;
  std::chrono::milliseconds passed_{0};
};

}  // namespace keyagent::test
