// SPDX-License-Identifier: Apache-2.0
#pragma once
// Wake-ups between the replicas that share a store: hints where to look, which may be lost.

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "agent/base/disk.h"
#include "agent/base/mutex.h"
#include "agent/store/engine/dialect.h"

namespace keyagent::store {

// Called with where to look; empty: everywhere.
using NotificationHandler = std::function<void(const std::string& what)>;

// PostgreSQL's LISTEN on its own connection; for SQLite, which has one process, a queue.
// Thread-safe, apart from listen() and stop().
class ChangeNotifications {
 public:
  // What PostgreSQL calls it.
  static constexpr const char* kChannel = "keyagent";

  explicit ChangeNotifications(const Place& place);
  ChangeNotifications(const ChangeNotifications&) = delete;
  ~ChangeNotifications();

  void listen(NotificationHandler look, std::chrono::milliseconds poll);
  // Returns when `look` is not being called and will not be. May wait for a connection attempt.
  void stop();
  // To the listener of this process.
  void wake(const std::string& what);

 private:
  class Connection;
  void run();
  void wait(Connection& connection, SteadyTime until) const;
  std::set<std::string> take();
  bool ended();

  const Place& place_;
  const Fd event_;  // eventfd: there is something in waiting_, or the end
  NotificationHandler look_;
  std::chrono::milliseconds poll_{};
  std::thread thread_;
  Mutex mutex_;
  std::set<std::string> waiting_ GUARDED_BY(mutex_);
  bool ended_ GUARDED_BY(mutex_) = false;
};

}  // namespace keyagent::store
