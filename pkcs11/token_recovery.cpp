// SPDX-License-Identifier: Apache-2.0
// Classifies the fault of a call, and recovers the token.

#include "pkcs11/token_folder.h"
#include "pkcs11/token_impl.h"

namespace keyagent::pkcs11 {

bool Token::Impl::recovered_lately() {
  const MutexLock lock(attempt_mutex);
  return recovered_at != TimePoint{} && SteadyClock::now() - recovered_at < options.backoff_most;
}

// The token proved to be dead in epoch `seen`: bring it up again. At once, unless the last time
// was a short while ago: a flapping token is taken up ever more slowly (RELIABILITY 19).
void Token::Impl::recover(std::uint64_t seen, const Error& fault, TimePoint until) {
  const bool lately = recovered_lately();
  bool first = false;
  {
    const MutexLock lock(attempt_mutex);
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
bool Token::Impl::look_again(std::uint64_t seen, TimePoint until) {
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
    const MutexLock lock(attempt_mutex);
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

bool Token::Impl::canary(TimePoint until) {
  const auto called_at = canaries.load();
  if (!canary_mutex.try_lock_until(until)) return false;
  const MutexLock lock(canary_mutex, std::adopt_lock);
  if (canaries.load() > called_at) return canary_passed;  // one began after this failure
  canaries.fetch_add(1);
  canary_passed = try_canary(until);
  return canary_passed;
}

bool Token::Impl::try_canary(TimePoint until) {
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

// What the fault asks for; true when it makes sense to run the work again.
bool Token::Impl::cure(const Error& error, std::uint64_t epoch, bool changes, int round,
                       TimePoint until) {
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

}  // namespace keyagent::pkcs11
