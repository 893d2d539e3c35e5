// SPDX-License-Identifier: Apache-2.0
// A token becomes usable: module, slot, login, session pool; one attempt at a time.

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "pkcs11/process_state.h"
#include "pkcs11/token_folder.h"
#include "pkcs11/token_impl.h"

namespace keyagent::pkcs11 {
namespace {

TokenState state_of(Error::Kind kind) {
  switch (kind) {
    case Error::Kind::kTokenAbsent:
    case Error::Kind::kAmbiguousToken:
      return TokenState::kAbsent;
    case Error::Kind::kPinRefused:
      return TokenState::kPinRefused;
    case Error::Kind::kPinLastTry:
    case Error::Kind::kPinLocked:
      return TokenState::kPinLocked;
    case Error::Kind::kStuck:
      return TokenState::kStuck;
    default:
      return TokenState::kDown;
  }
}

}  // namespace

// Makes the token usable in the module's current epoch, or throws the reason. One attempt at a
// time, on a dedicated thread; every caller waits for it, at most until `until`.
void Token::Impl::bring_up(TimePoint until) {
  std::shared_future<std::optional<Fault>> attempt;
  {
    const MutexLock lock(attempt_mutex);
    if (!attempt_now.valid()) {
      if (ready()) return;
      if (last_fault && SteadyClock::now() < next_attempt) last_fault->raise();
      start_attempt();
    }
    attempt = attempt_now;
  }
  if (attempt.wait_until(until) != std::future_status::ready) {
    show(TokenState::kStuck, "the module does not come back from being brought up");
    throw Error(Error::Kind::kStuck, "the module does not come back from being brought up");
  }
  if (const auto& fault = attempt.get()) fault->raise();
}

void Token::Impl::start_attempt() {
  std::promise<std::optional<Fault>> promise;
  attempt_now = promise.get_future().share();
  std::thread([self = shared_from_this(), promise = std::move(promise)]() mutable {
    std::optional<Fault> fault;
    try {
      self->attempt_to_connect();
    } catch (const Error& error) {
      fault = Fault{error.kind(), error.what(), error.rv()};
    } catch (const std::exception& error) {
      fault = Fault{Error::Kind::kModule, error.what()};
    }
    self->end_attempt(fault);
    self.reset();  // before the waiters are notified: one of them should be the last owner
    promise.set_value(std::move(fault));
  }).detach();
}

void Token::Impl::attempt_to_connect() {
  const auto until = SteadyClock::now() + profile.deadline;
  bool reload = false;
  {
    const MutexLock lock(attempt_mutex);
    reload = reload_first;
  }
  if ((reload || !module->initialized()) && !module->reload(module->epoch(), until)) {
    throw Error(Error::Kind::kStuck, "a call into the module has not come back");
  }
  connect(until);
}

void Token::Impl::connect(TimePoint until) {
  const auto entry = module->enter(until);
  const auto epoch = module->epoch();
  const auto guard = module->one_call(until);
  try {
    login_session.reset();
    const auto match = find_slot(*module->functions(), options.selector);
    remember(match, epoch);
    login_session = std::make_unique<Session>(module, match.slot, profile);
    require_token_room(profile, options.state_folder, "C_Login");
    const ProcessState as_before;
    log_in(*module->functions(), login_session->handle(), match.info, profile, options.pin,
           refused);
    logins.fetch_add(1, std::memory_order_relaxed);
    pool.restart([this, slot_now = match.slot] {
      return std::make_unique<Session>(module, slot_now, profile);
    });
  } catch (...) {
    login_session.reset();
    throw;
  }
  ready_epoch.store(epoch, std::memory_order_release);
}

void Token::Impl::remember(const SlotMatch& match, std::uint64_t epoch) {
  slot = match.slot;
  has_rng = (match.info.flags & CKF_RNG) != 0;
  const MutexLock lock(status_mutex);
  shown.label = padded_text(match.info.label);
  shown.serial = padded_text(match.info.serialNumber);
  shown.manufacturer = padded_text(match.info.manufacturerID);
  shown.model = padded_text(match.info.model);
  shown.firmware = std::to_string(match.info.firmwareVersion.major) + "." +
                   std::to_string(match.info.firmwareVersion.minor);
  shown.epoch = epoch;
}

// After a failed attempt the next one waits, and starts with a fresh run of the module, because
// modules cache their slot lists and dead connections (RELIABILITY 6, X9).
void Token::Impl::end_attempt(const std::optional<Fault>& fault) {
  {
    const MutexLock lock(attempt_mutex);
    attempt_now = {};
    reload_first = fault.has_value();
    last_fault = fault;
    if (fault) put_off();
  }
  if (fault) {
    show(state_of(fault->kind), fault->text);
  } else {
    show(TokenState::kUp, "logged in");
  }
}

// Jitter keeps a fleet from knocking in step.
void Token::Impl::put_off() {
  static thread_local std::minstd_rand jitter{std::random_device{}()};
  next_attempt =
      SteadyClock::now() + pause * std::uniform_int_distribution<int>(75, 125)(jitter) / 100;
  pause = std::min(pause * 2, options.backoff_most);
}

}  // namespace keyagent::pkcs11
