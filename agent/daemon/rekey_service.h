// SPDX-License-Identifier: Apache-2.0
#pragma once
// The thread that gives keys their time: rekeys in progress, and what the scheduler finds due.

#include <functional>
#include <memory>
#include <thread>

#include "agent/base/mutex.h"
#include "agent/config/config.h"
#include "agent/daemon/hook.h"
#include "agent/keys/scheduler.h"
#include "agent/link/instance_confirmation.h"

namespace keyagent::daemon {

keys::Periods periods_of(const config::RekeyConfig& config);

// Thread-safe. Its own thread, because a rekey waits for the token and for the hook.
class RekeyService {
 public:
  // `instance` must confirm too, after the hook; may be null. `ready`: ledger and token agree.
  // `after`: called when something may have changed.
  RekeyService(keys::KeyStore& keys, const config::RekeyConfig& config,
               keys::Confirmation* instance, keys::EventSink tell, std::function<bool()> ready,
               std::function<void()> after);
  ~RekeyService();

  void start();
  void stop();
  void wake();
  // A new configuration: periods at once, the hook at the next start. The clock is taken as it is.
  void reload(const config::RekeyConfig& config);
  keys::RekeyRunner& runner() { return runner_; }
  keys::Periods periods() const;
  std::string clock_fault() const { return scheduler_.clock_fault(); }

 private:
  void run();
  void look();
  void set_periods(const config::RekeyConfig& config);

  keys::KeyStore& keys_;
  std::unique_ptr<HookConfirmation> hook_;
  link::BothConfirm confirmation_;
  keys::EventSink tell_;
  const std::function<bool()> ready_;
  const std::function<void()> after_;
  mutable Mutex mutex_;
  CondVar changed_;
  keys::Periods periods_ GUARDED_BY(mutex_);
  bool woken_ GUARDED_BY(mutex_) = true;  // what a restart left continues at once
  bool ended_ GUARDED_BY(mutex_) = false;
  std::string setback_;  // the thread's
  keys::RekeyRunner runner_;
  keys::Scheduler scheduler_;
  std::thread thread_;
};

}  // namespace keyagent::daemon
