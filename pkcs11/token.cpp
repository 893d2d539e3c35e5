#include "pkcs11/token.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <random>
#include <utility>

#include "pkcs11/error.h"
#include "pkcs11/login.h"
#include "pkcs11/module.h"
#include "pkcs11/session_pool.h"
#include "pkcs11/slot.h"

namespace keyagent::pkcs11 {
namespace {

using SteadyClock = std::chrono::steady_clock;
using TimePoint = SteadyClock::time_point;

TokenState state_of(const Error& error) {
  switch (error.kind()) {
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

struct Token::Impl {
  // Constant after construction.
  const Profile profile;
  const TokenOptions options;
  const std::shared_ptr<Module> module;

  // Own synchronisation.
  SessionPool pool;
  std::mutex one_call;  // profile.serialise
  std::atomic<std::uint64_t> ready_epoch{0};
  std::atomic<std::uint64_t> operations{0}, faults{0}, recoveries{0}, logins{0}, canaries{0};

  // Guarded by bring_up_mutex.
  std::timed_mutex bring_up_mutex;
  RefusedPin refused;
  std::unique_ptr<Session> login_session;  // pinned: closing the last session would log out
  bool reload_first = false;
  TimePoint next_attempt{};
  std::chrono::milliseconds pause;

  // Guarded by status_mutex.
  mutable std::mutex status_mutex;
  TokenStatus shown;
  std::exception_ptr last_fault;
  CK_SLOT_ID slot = 0;
  bool has_rng = false;

  std::mutex canary_mutex;
  bool canary_passed = false;  // guarded by canary_mutex

  Impl(Profile profile_in, TokenOptions options_in)
      : profile(std::move(profile_in)),
        options(std::move(options_in)),
        module(Module::open(profile, options.state_folder)),
        pool(profile.sessions, profile.queue, profile.deadline),
        refused(options.refused_pin_file),
        pause(options.backoff_first) {}

  ~Impl() {
    const auto entry = module->enter();
    login_session.reset();
    pool.clear();
  }

  bool ready() const { return ready_epoch.load(std::memory_order_acquire) == module->epoch(); }

  void show(TokenState state, const std::string& detail) {
    bool changed = false;
    {
      const std::lock_guard lock(status_mutex);
      changed = shown.state != state;
      shown.state = state;
      shown.detail = detail;
    }
    if (changed && options.on_state) options.on_state(state, detail);
  }

  std::unique_lock<std::mutex> serialised() {
    return profile.serialise ? std::unique_lock(one_call) : std::unique_lock<std::mutex>();
  }

  // Makes the token usable in the module's present epoch, or throws why it is not.
  void bring_up(TimePoint until) {
    std::unique_lock lock(bring_up_mutex, std::defer_lock);
    if (!lock.try_lock_until(until)) {
      throw Error(Error::Kind::kStuck, "the token is still being brought up");
    }
    if (ready()) return;
    if (SteadyClock::now() < next_attempt) {
      const std::lock_guard status_lock(status_mutex);
      std::rethrow_exception(last_fault);
    }
    try {
      if (reload_first && !module->reload(module->epoch(), until)) {
        throw Error(Error::Kind::kStuck, "a call into the module has not come back");
      }
      reload_first = false;
      connect();
      pause = options.backoff_first;
    } catch (const Error& error) {
      put_off(error);
      throw;
    }
  }

  void connect() {
    const auto entry = module->enter();
    const auto epoch = module->epoch();
    const auto guard = serialised();
    login_session.reset();
    const auto match = find_slot(*module->functions(), options.selector);
    remember(match, epoch);
    login_session = std::make_unique<Session>(module, match.slot, profile);
    log_in(*module->functions(), login_session->handle(), match.info, profile, options.pin,
           refused);
    logins.fetch_add(1, std::memory_order_relaxed);
    pool.restart(epoch, [this, slot_now = match.slot] {
      return std::make_unique<Session>(module, slot_now, profile);
    });
    ready_epoch.store(epoch, std::memory_order_release);
    show(TokenState::kUp, "logged in");
  }

  void remember(const SlotMatch& match, std::uint64_t epoch) {
    const std::lock_guard lock(status_mutex);
    slot = match.slot;
    has_rng = (match.info.flags & CKF_RNG) != 0;
    shown.label = padded_text(match.info.label);
    shown.serial = padded_text(match.info.serialNumber);
    shown.manufacturer = padded_text(match.info.manufacturerID);
    shown.model = padded_text(match.info.model);
    shown.firmware = std::to_string(match.info.firmwareVersion.major) + "." +
                     std::to_string(match.info.firmwareVersion.minor);
    shown.epoch = epoch;
  }

  // A failed attempt: the next one waits, and starts with a fresh run of the module, because
  // modules cache their slot lists and dead connections (RELIABILITY 6, X9). Jitter keeps a fleet
  // from knocking in step.
  void put_off(const Error& error) {
    login_session.reset();
    reload_first = true;
    static thread_local std::minstd_rand jitter{std::random_device{}()};
    next_attempt =
        SteadyClock::now() + pause * std::uniform_int_distribution<int>(75, 125)(jitter) / 100;
    pause = std::min(pause * 2, options.backoff_most);
    {
      const std::lock_guard lock(status_mutex);
      last_fault = std::current_exception();
    }
    show(state_of(error), error.what());
  }

  // The token proved to be dead in epoch `seen`: bring it up again, at once the first time.
  void recover(std::uint64_t seen, const Error& fault, TimePoint until) {
    {
      const std::lock_guard lock(bring_up_mutex);
      if (ready_epoch.load() == seen) {
        ready_epoch.store(0);
        reload_first = true;
        recoveries.fetch_add(1, std::memory_order_relaxed);
        show(TokenState::kDown, fault.what());
      }
    }
    bring_up(until);
  }

  bool canary() {
    const auto called_at = canaries.load();
    const std::lock_guard lock(canary_mutex);
    if (canaries.load() > called_at) return canary_passed;  // one began after this failure
    canaries.fetch_add(1);
    canary_passed = try_canary();
    return canary_passed;
  }

  bool try_canary() {
    const auto entry = module->enter();
    if (!ready()) return false;
    const auto guard = serialised();
    try {
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
    auto entry = module->enter();
    while (!ready()) {
      entry.unlock();
      bring_up(until);
      entry = module->enter();
    }
    epoch = module->epoch();
    auto lease = pool.lease(until);
    const auto guard = serialised();
    operations.fetch_add(1, std::memory_order_relaxed);
    try {
      work(*lease);
    } catch (const Error& error) {
      // A call that ended with a verdict on its input ended its operation too; after anything else
      // one may still be active.
      if (error.rv_class() != RvClass::kInput && error.rv_class() != RvClass::kAmbiguous)
        (*lease).soil();
      throw;
    } catch (...) {
      (*lease).soil();
      throw;
    }
  }

  void run(const std::function<void(Session&)>& work, bool once) {
    const auto until = SteadyClock::now() + profile.deadline;
    for (int round = 0;; ++round) {
      std::uint64_t epoch = 0;
      try {
        return attempt(work, until, epoch);
      } catch (const Error& error) {
        if (epoch == 0 || error.kind() != Error::Kind::kRv) throw;
        faults.fetch_add(1, std::memory_order_relaxed);
        if (!cure(error, epoch, round, until) || once || round == 2) throw;
      }
    }
  }

  // What the fault asks for; true when it makes sense to run the work again.
  bool cure(const Error& error, std::uint64_t epoch, int round, TimePoint until) {
    switch (error.rv_class()) {
      case RvClass::kAmbiguous:
        if (canary()) return false;
        break;
      case RvClass::kSession:
      case RvClass::kDevice:
        if (round == 0 && canary()) return true;
        break;
      case RvClass::kLogin:
        break;
      default:
        return false;
    }
    recover(epoch, error, until);
    return true;
  }
};

Token::Token(Profile profile, TokenOptions options)
    : impl_(std::make_unique<Impl>(std::move(profile), std::move(options))) {
  try {
    impl_->bring_up(SteadyClock::now() + impl_->profile.deadline);
  } catch (const Error&) {
    // status() says why; the token may come later.
  }
}

Token::~Token() = default;

void Token::run_erased(const std::function<void(Session&)>& work, bool once) {
  impl_->run(work, once);
}

const Profile& Token::profile() const {
  return impl_->profile;
}

TokenStatus Token::status() const {
  const auto counts = impl_->pool.counts();
  const std::lock_guard lock(impl_->status_mutex);
  TokenStatus status = impl_->shown;
  status.sessions_open = counts.open;
  status.sessions_busy = counts.busy;
  status.sessions_limit = counts.limit;
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
    if (impl_->canary()) return true;
    impl_->recover(
        impl_->ready_epoch.load(),
        Error(Error::Kind::kRv, "the token does not answer a health check", CKR_DEVICE_ERROR),
        until);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace keyagent::pkcs11
