// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by token.cpp, token_attempt.cpp and token_recovery.cpp only.

#include <atomic>
#include <future>
#include <optional>
#include <string>

#include "agent/base/mutex.h"
#include "pkcs11/error.h"
#include "pkcs11/login.h"
#include "pkcs11/module.h"
#include "pkcs11/session_pool.h"
#include "pkcs11/slot.h"
#include "pkcs11/token.h"

namespace keyagent::pkcs11 {

// Why an attempt failed, as a value: what one thread found is thrown by many.
struct Fault {
  Error::Kind kind;
  std::string text;
  CK_RV rv = CKR_OK;
  [[noreturn]] void raise() const { throw Error(kind, text, rv); }
};

// Shared with the thread of an attempt to bring the token up, because a module may hang there
// permanently, and callers must not (RELIABILITY 45).
struct Token::Impl : std::enable_shared_from_this<Token::Impl> {
  using SteadyClock = std::chrono::steady_clock;
  using TimePoint = SteadyClock::time_point;

  // Constant after construction.
  const Profile profile;
  const TokenOptions options;
  const std::shared_ptr<Module> module;

  // Own synchronisation.
  SessionPool pool;
  std::atomic<std::uint64_t> ready_epoch{0};
  std::atomic<CK_SLOT_ID> slot{0};
  std::atomic<bool> has_rng{false};
  std::atomic<std::uint64_t> operations{0}, faults{0}, recoveries{0}, logins{0}, canaries{0};

  // Used by one attempt at a time.
  RefusedPin refused;
  std::unique_ptr<Session> login_session;  // pinned: closing the last session would log out

  Mutex attempt_mutex;
  // Valid while an attempt runs.
  std::shared_future<std::optional<Fault>> attempt_now GUARDED_BY(attempt_mutex);
  bool reload_first GUARDED_BY(attempt_mutex) = false;
  TimePoint next_attempt GUARDED_BY(attempt_mutex){},
      recovered_at GUARDED_BY(attempt_mutex){}, looked_at GUARDED_BY(attempt_mutex){};
  std::chrono::milliseconds pause GUARDED_BY(attempt_mutex);
  std::optional<Fault> last_fault GUARDED_BY(attempt_mutex);

  mutable Mutex status_mutex;
  TokenStatus shown GUARDED_BY(status_mutex);
  bool ever_shown GUARDED_BY(status_mutex) = false;

  RecursiveMutex callback_mutex;                   // a callback may use the token
  bool closed GUARDED_BY(callback_mutex) = false;  // no more callbacks

  DeadlineMutex canary_mutex;
  bool canary_passed GUARDED_BY(canary_mutex) = false;

  Impl(Profile profile_in, TokenOptions options_in);
  ~Impl();

  // token.cpp: work in a session.
  bool ready() const;
  void show(TokenState state, const std::string& detail);
  void attempt(const std::function<void(Session&)>& work, TimePoint until, std::uint64_t& epoch);
  void run(const std::function<void(Session&)>& work, bool once, bool changes);

  // token_attempt.cpp: the token becomes usable.
  void bring_up(TimePoint until);
  void start_attempt() REQUIRES(attempt_mutex);
  void attempt_to_connect();
  void connect(TimePoint until);
  void remember(const SlotMatch& match, std::uint64_t epoch);
  void end_attempt(const std::optional<Fault>& fault);
  void put_off() REQUIRES(attempt_mutex);

  // token_recovery.cpp: what a fault means, and what it takes.
  bool recovered_lately();
  void recover(std::uint64_t seen, const Error& fault, TimePoint until);
  bool look_again(std::uint64_t seen, TimePoint until);
  bool canary(TimePoint until);
  bool try_canary(TimePoint until);
  bool cure(const Error& error, std::uint64_t epoch, bool changes, int round, TimePoint until);
};

}  // namespace keyagent::pkcs11
