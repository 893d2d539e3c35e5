#include "pkcs11/token.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "pkcs11/error.h"
#include "pkcs11/login.h"
#include "pkcs11/module.h"
#include "pkcs11/process_state.h"
#include "pkcs11/session_pool.h"
#include "pkcs11/slot.h"
#include "pkcs11/token_folder.h"

namespace keyagent::pkcs11 {
namespace {

using SteadyClock = std::chrono::steady_clock;
using TimePoint = SteadyClock::time_point;

// Why an attempt failed, as a value: what one thread found is thrown by many.
struct Fault {
  Error::Kind kind;
  std::string text;
  CK_RV rv = CKR_OK;
  [[noreturn]] void raise() const { throw Error(kind, text, rv); }
};

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

// Shared with the thread of an attempt to bring the token up: a module may hang there for ever, and
// whoever waits must not (RELIABILITY 45).
struct Token::Impl : std::enable_shared_from_this<Token::Impl> {
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

  std::mutex attempt_mutex;                              // guards the six that follow
  std::shared_future<std::optional<Fault>> attempt_now;  // valid while an attempt runs
  bool reload_first = false;
  TimePoint next_attempt{}, recovered_at{}, looked_at{};
  std::chrono::milliseconds pause;
  std::optional<Fault> last_fault;

  // Guarded by status_mutex.
  mutable std::mutex status_mutex;
  TokenStatus shown;
  bool ever_shown = false;

  std::recursive_mutex callback_mutex;  // a callback may use the token
  bool closed = false;                  // guarded by callback_mutex: whoever listened is gone

  DeadlineMutex canary_mutex;
  bool canary_passed = false;  // guarded by canary_mutex

  Impl(Profile profile_in, TokenOptions options_in)
      : profile(std::move(profile_in)),
        options(std::move(options_in)),
        module(Module::open(profile, options.state_folder)),
        pool({module->serialised() ? 1 : profile.sessions, profile.queue, profile.deadline,
              profile.keep_alive, options.grow_again}),
        refused(options.refused_pin_file),
        pause(options.backoff_first) {}

  ~Impl() {
    try {
      const auto entry = module->enter(SteadyClock::now() + profile.deadline);
      login_session.reset();
      pool.clear();
    } catch (const Error&) {
      // The module hangs in a reload: sessions of a past epoch close themselves without a call.
    }
  }

  bool ready() const {
    const auto epoch = ready_epoch.load(std::memory_order_acquire);
    return epoch != 0 && epoch == module->epoch();
  }

  void show(TokenState state, const std::string& detail) {
    bool changed = false;
    {
      const std::lock_guard lock(status_mutex);
      changed = !ever_shown || shown.state != state;
      ever_shown = true;
      shown.state = state;
      shown.detail = detail;
    }
    if (!changed || !options.on_state) return;
    const std::lock_guard lock(callback_mutex);
    if (!closed) options.on_state(state, detail);
  }

  // Makes the token usable in the module's present epoch, or throws why it is not. One attempt at a
  // time, on a thread of its own; every caller waits for it, but not beyond `until`.
  void bring_up(TimePoint until) {
    std::shared_future<std::optional<Fault>> attempt;
    {
      const std::lock_guard lock(attempt_mutex);
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

  // REQUIRES attempt_mutex.
  void start_attempt() {
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
      self.reset();  // before anybody is told: the last owner should be one of them
      promise.set_value(std::move(fault));
    }).detach();
  }

  void attempt_to_connect() {
    const auto until = SteadyClock::now() + profile.deadline;
    bool reload = false;
    {
      const std::lock_guard lock(attempt_mutex);
      reload = reload_first;
    }
    if ((reload || !module->initialised()) && !module->reload(module->epoch(), until)) {
      throw Error(Error::Kind::kStuck, "a call into the module has not come back");
    }
    connect(until);
  }

  void connect(TimePoint until) {
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

  void remember(const SlotMatch& match, std::uint64_t epoch) {
    slot = match.slot;
    has_rng = (match.info.flags & CKF_RNG) != 0;
    const std::lock_guard lock(status_mutex);
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
  void end_attempt(const std::optional<Fault>& fault) {
    {
      const std::lock_guard lock(attempt_mutex);
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

  // REQUIRES attempt_mutex. Jitter keeps a fleet from knocking in step.
  void put_off() {
    static thread_local std::minstd_rand jitter{std::random_device{}()};
    next_attempt =
        SteadyClock::now() + pause * std::uniform_int_distribution<int>(75, 125)(jitter) / 100;
    pause = std::min(pause * 2, options.backoff_most);
  }

  bool recovered_lately() {
    const std::lock_guard lock(attempt_mutex);
    return recovered_at != TimePoint{} && SteadyClock::now() - recovered_at < options.backoff_most;
  }

  // The token proved to be dead in epoch `seen`: bring it up again. At once, unless the last time
  // was a short while ago: a flapping token is taken up ever more slowly (RELIABILITY 19).
  void recover(std::uint64_t seen, const Error& fault, TimePoint until) {
    const bool lately = recovered_lately();
    bool first = false;
    {
      const std::lock_guard lock(attempt_mutex);
      first = ready_epoch.compare_exchange_strong(seen, 0);
      if (first) {
        reload_first = true;
        recovered_at = SteadyClock::now();
        last_fault = Fault{fault.kind(), fault.what(), fault.rv()};
        if (lately) {
          put_off();
        } else {
          pause = options.backoff_first;
          next_attempt = {};
        }
      }
    }
    if (first) {
      recoveries.fetch_add(1, std::memory_order_relaxed);
      show(TokenState::kDown, fault.what());
    }
    bring_up(until);
  }

  // See Token::look_again(); `seen`: the epoch in which something was missing.
  bool look_again(std::uint64_t seen, TimePoint until) {
    if (!ready() || module->epoch() != seen) {  // another thread did it meanwhile
      bring_up(until);
      return true;
    }
    try {
      require_token_room(profile, options.state_folder, "C_Login");
    } catch (const Error&) {
      return false;
    }
    {
      const std::lock_guard lock(attempt_mutex);
      const auto now = SteadyClock::now();
      if (looked_at != TimePoint{} && now - looked_at < options.look_again) return false;
      if (ready_epoch.compare_exchange_strong(seen, 0)) {
        looked_at = now;
        reload_first = true;
        last_fault.reset();
        pause = options.backoff_first;
        next_attempt = {};
      }
    }
    bring_up(until);
    return true;
  }

  bool canary(TimePoint until) {
    const auto called_at = canaries.load();
    const std::unique_lock lock(canary_mutex, until);
    if (!lock.owns_lock()) return false;
    if (canaries.load() > called_at) return canary_passed;  // one began after this failure
    canaries.fetch_add(1);
    canary_passed = try_canary(until);
    return canary_passed;
  }

  bool try_canary(TimePoint until) {
    try {
      const auto entry = module->enter(until);
      if (!ready()) return false;
      const auto guard = module->one_call(until);
      Session fresh(module, slot, profile);
      CK_SESSION_INFO info{};
      check(fresh.c().C_GetSessionInfo(fresh.handle(), &info), "C_GetSessionInfo");
      if (info.state != CKS_RW_USER_FUNCTIONS) return false;
      unsigned char bytes[16];
      return !has_rng || fresh.c().C_GenerateRandom(fresh.handle(), bytes, sizeof bytes) == CKR_OK;
    } catch (const Error& error) {
      return error.rv_class() == RvClass::kCapacity;  // it answers, it has no session to spare
    }
  }

  void attempt(const std::function<void(Session&)>& work, TimePoint until, std::uint64_t& epoch) {
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

  void run(const std::function<void(Session&)>& work, bool once, bool changes) {
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

  // What the fault asks for; true when it makes sense to run the work again.
  bool cure(const Error& error, std::uint64_t epoch, bool changes, int round, TimePoint until) {
    switch (error.rv_class()) {
      case RvClass::kAmbiguous:
        if (canary(until)) return changes && look_again(epoch, until);
        break;
      case RvClass::kSession:
      case RvClass::kDevice:
        // With a canary that passes, a reload is worth one try, not one for each request.
        if (canary(until) && (round == 0 || recovered_lately())) return round == 0;
        break;
      case RvClass::kLogin:
        if (recovered_lately() && canary(until)) return false;
        break;
      default:
        return false;
    }
    recover(epoch, error, until);
    return true;
  }
};

Token::Token(Profile profile, TokenOptions options)
    : impl_(std::make_shared<Impl>(std::move(profile), std::move(options))) {
  try {
    impl_->bring_up(SteadyClock::now() + impl_->profile.deadline);
  } catch (const std::exception&) {
    // status() says why; the token may come later.
  }
}

Token::~Token() {
  const std::lock_guard lock(impl_->callback_mutex);
  impl_->closed = true;
}

void Token::run_erased(const std::function<void(Session&)>& work, bool once, bool changes) {
  impl_->run(work, once, changes);
}

void Token::require_room() const {
  require_token_room(impl_->profile, impl_->options.state_folder, "a write");
}

bool Token::look_again() {
  return impl_->look_again(impl_->ready_epoch.load(), SteadyClock::now() + impl_->profile.deadline);
}

const Profile& Token::profile() const {
  return impl_->profile;
}

TokenStatus Token::status() const {
  const auto counts = impl_->pool.counts();
  const std::lock_guard lock(impl_->status_mutex);
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
    status.detail = "every session is inside a call that does not come back";
  }
  status.operations = impl_->operations.load();
  status.faults = impl_->faults.load();
  status.recoveries = impl_->recoveries.load();
  status.logins = impl_->logins.load();
  status.canaries = impl_->canaries.load();
  return status;
}

bool Token::check_health() {
  const auto until = SteadyClock::now() + impl_->profile.deadline;
  try {
    if (!impl_->ready()) {
      impl_->bring_up(until);
      return true;
    }
    if (impl_->canary(until)) return true;
    impl_->recover(
        impl_->ready_epoch.load(),
        Error(Error::Kind::kRv, "the token does not answer a health check", CKR_DEVICE_ERROR),
        until);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void Token::renew_sessions() {
  const auto until = SteadyClock::now() + impl_->profile.deadline;
  if (!impl_->profile.reload_after_destroy) {
    const auto entry = impl_->module->enter(until);
    impl_->pool.renew();
    return;
  }
  {
    const std::lock_guard lock(impl_->attempt_mutex);
    impl_->ready_epoch.store(0);
    impl_->reload_first = true;
    impl_->next_attempt = {};
  }
  impl_->bring_up(until);
}

}  // namespace keyagent::pkcs11
