// SPDX-License-Identifier: Apache-2.0
#pragma once
// The places where passwords are hashed, each of which needs 64 MiB: shared fairly by address.

#include <chrono>
#include <list>
#include <map>
#include <string>

#include "agent/base/mutex.h"

namespace keyagent::instance {

// Thread-safe. An address has at most all places but one (one, where there is one), and one that
// waits; `max_waiting` wait in all. Addresses without failed logins go first, and when the queue is
// full they take the place of one with failures.
class HashingPlaces {
 public:
  struct Limits {
    std::size_t places = 2, max_waiting = 4;
    std::chrono::milliseconds longest_wait{10000};
  };
  explicit HashingPlaces(const Limits& limits) : limits_(limits) {}

  std::size_t waiting();

  // Holds a place until it ends. Throws Error{kBusy}: the address or the queue is full, or no place
  // came free in time.
  class Lease {
   public:
    Lease(HashingPlaces& places, const std::string& address, bool clean);
    ~Lease();
    Lease(const Lease&) = delete;

   private:
    HashingPlaces& places_;
    const std::string address_;
  };

 private:
  struct Waiter {
    const std::string address;
    const bool clean;
    bool displaced = false;
  };
  using Waiters = std::list<Waiter>;
  bool fits(const std::string& address) const REQUIRES(mutex_);
  bool is_next(const Waiter& waiter) const REQUIRES(mutex_);
  void enqueue(const std::string& address, bool clean) REQUIRES(mutex_);

  const Limits limits_;
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::size_t> running_ GUARDED_BY(mutex_);  // by address
  std::size_t taken_ GUARDED_BY(mutex_) = 0;
  Waiters waiting_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::instance
