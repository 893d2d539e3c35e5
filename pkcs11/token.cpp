// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/token.h"

#include <utility>

#include "pkcs11/token_folder.h"
#include "pkcs11/token_impl.h"

namespace keyagent::pkcs11 {

Token::Impl::Impl(Profile profile_in, TokenOptions options_in)
    : profile(std::move(profile_in)),
      options(std::move(options_in)),
      module(Module::open(profile, options.state_folder)),
      pool({module->serialized() ? 1 : profile.sessions, profile.queue, profile.deadline,
            profile.keep_alive, options.grow_again}),
      refused(options.refused_pin_file),
      pause(options.backoff_first) {}

Token::Impl::~Impl() {
  try {
    const auto entry = module->enter(SteadyClock::now() + profile.deadline);
    login_session.reset();
    pool.clear();
  } catch (const Error&) {
    // The module hangs in a reload: sessions of a past epoch close themselves without a call.
  }
}

bool Token::Impl::ready() const {
  const auto epoch = ready_epoch.load(std::memory_order_acquire);
  return epoch != 0 && epoch == module->epoch();
}

void Token::Impl::show(TokenState state, const std::string& detail) {
  bool changed = false;
  {
    const MutexLock lock(status_mutex);
    changed = !ever_shown || shown.state != state;
    ever_shown = true;
    shown.state = state;
    shown.detail = detail;
  }
  if (!changed || !options.on_state) return;
  const MutexLock lock(callback_mutex);
  if (!closed) options.on_state(state, detail);
}

void Token::Impl::attempt(const std::function<void(Session&)>& work, TimePoint until,
                          std::uint64_t& epoch) {
  auto entry = module->enter(until);
  while (!ready()) {
    entry.unlock();
    bring_up(until);
    entry = module->enter(until);
  }
  epoch = module->epoch();
  auto lease = pool.lease(until);
  const auto guard = module->one_call(until);
  operations.fetch_add(1, std::memory_order_relaxed);
  try {
    work(*lease);
  } catch (const Error& error) {
    // A call that ended with a verdict on its input ended its operation too; after anything else
    // one may still be active.
    if (error.rv_class() != RvClass::kInput && error.rv_class() != RvClass::kAmbiguous)
      (*lease).mark_unusable();
    throw;
  } catch (...) {
    (*lease).mark_unusable();
    throw;
  }
}

void Token::Impl::run(const std::function<void(Session&)>& work, bool once, bool changes) {
  const auto until = SteadyClock::now() + profile.deadline;
  for (int round = 0;; ++round) {
    std::uint64_t epoch = 0;
    try {
      return attempt(work, until, epoch);
    } catch (const Error& error) {
      const bool missing = error.kind() == Error::Kind::kObject;
      if (epoch == 0 || (error.kind() != Error::Kind::kRv && !missing)) throw;
      faults.fetch_add(1, std::memory_order_relaxed);
      const bool again =
          missing ? look_again(epoch, until) : cure(error, epoch, changes, round, until);
      if (!again || once || round == 2) throw;
    }
  }
}

Token::Token(Profile profile, TokenOptions options)
    : impl_(std::make_shared<Impl>(std::move(profile), std::move(options))) {
  try {
    impl_->bring_up(std::chrono::steady_clock::now() + impl_->profile.deadline);
  } catch (const std::exception&) {
    // status() holds the reason; the token may appear later.
  }
}

Token::~Token() {
  const MutexLock lock(impl_->callback_mutex);
  impl_->closed = true;
}

void Token::run_erased(const std::function<void(Session&)>& work, bool once, bool changes) {
  impl_->run(work, once, changes);
}

void Token::require_writable() const {
  require_token_writable(impl_->profile, impl_->options.state_folder);
}

void Token::require_room() const {
  require_token_room(impl_->profile, impl_->options.state_folder, "a write");
}

bool Token::look_again() {
  return impl_->look_again(impl_->ready_epoch.load(),
                           std::chrono::steady_clock::now() + impl_->profile.deadline);
}

const Profile& Token::profile() const {
  return impl_->profile;
}

const std::filesystem::path& Token::refused_pin_file() const {
  return impl_->options.refused_pin_file;
}

TokenStatus Token::status() const {
  const auto counts = impl_->pool.counts();
  const MutexLock lock(impl_->status_mutex);
  TokenStatus status = impl_->shown;
  status.module = impl_->module->path();
  status.module_sha256 = impl_->module->sha256();
  status.sessions_open = counts.open;
  status.sessions_busy = counts.busy;
  status.sessions_limit = counts.limit;
  status.sessions_waiting = counts.waiting;
  status.stuck_calls = counts.stuck;
  if (status.state == TokenState::kUp && counts.stuck >= counts.limit) {
    status.state = TokenState::kStuck;
    status.detail = "every session is in a call that hangs";
  }
  status.operations = impl_->operations.load();
  status.faults = impl_->faults.load();
  status.recoveries = impl_->recoveries.load();
  status.logins = impl_->logins.load();
  status.canaries = impl_->canaries.load();
  return status;
}

bool Token::check_health() {
  const auto until = std::chrono::steady_clock::now() + impl_->profile.deadline;
  try {
    if (!impl_->ready()) {
      impl_->bring_up(until);
      return true;
    }
    if (impl_->canary(until)) return true;
    impl_->recover(
        impl_->ready_epoch.load(),
        Error(Error::Kind::kRv, "the token does not respond to a health check", CKR_DEVICE_ERROR),
        until);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void Token::renew_sessions() {
  const auto until = std::chrono::steady_clock::now() + impl_->profile.deadline;
  if (!impl_->profile.reload_after_destroy) {
    const auto entry = impl_->module->enter(until);
    impl_->pool.renew();
    return;
  }
  {
    const MutexLock lock(impl_->attempt_mutex);
    impl_->ready_epoch.store(0);
    impl_->reload_first = true;
    impl_->next_attempt = {};
  }
  impl_->bring_up(until);
}

}  // namespace keyagent::pkcs11
