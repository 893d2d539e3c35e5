// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/session_pool.h"

#include <algorithm>
#include <utility>

#include "agent/base/mutex.h"
#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

SessionPool::Limits sane(SessionPool::Limits limits) {
  limits.sessions = std::max<std::size_t>(limits.sessions, 1);
  return limits;
}

}  // namespace

SessionPool::SessionPool(Limits limits)
    : limits_(sane(limits)), since_(limits_.sessions), limit_(limits_.sessions) {
  for (std::size_t place = 0; place < limits_.sessions; ++place) free_places_.push_back(place);
}

// In these three, `old` outlives the lock: closing a session is a call into the module.
void SessionPool::restart(Open open) {
  std::vector<Idle> old;
  const MutexLock lock(mutex_);
  old.swap(idle_);
  open_ -= old.size();
  ++generation_;
  limit_ = limits_.sessions;
  open_session_ = std::move(open);
}

void SessionPool::renew() {
  std::vector<Idle> old;
  const MutexLock lock(mutex_);
  old.swap(idle_);
  open_ -= old.size();
  ++generation_;
}

void SessionPool::clear() {
  std::vector<Idle> old;
  const MutexLock lock(mutex_);
  old.swap(idle_);
  open_ -= old.size();
}

SessionPool::Counts SessionPool::counts() const {
  const MutexLock lock(mutex_);
  return {open_, busy_, limit_, waiters_.size(), stuck()};
}

SessionPool::Lease SessionPool::lease(TimePoint until) {
  std::vector<Idle> stale;
  MutexLock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (auto session = take_idle(now, stale)) return make_lease(std::move(session), now, generation_);
  if (limit_ < limits_.sessions && now >= grow_at_) {
    ++limit_;
    grow_at_ = now + limits_.grow;
  }
  if (open_ >= limit_) return wait(until);
  ++open_;
  return open_one(until);
}

std::unique_ptr<Session> SessionPool::take_idle(TimePoint now, std::vector<Idle>& stale) {
  while (!idle_.empty()) {
    Idle last = std::move(idle_.back());
    idle_.pop_back();
    if (limits_.idle.count() == 0 || now - last.since < limits_.idle)
      return std::move(last.session);
    // Firewalls and HSMs drop silent connections without a word (RELIABILITY 9).
    stale.push_back(std::move(last));
    --open_;
  }
  return nullptr;
}

SessionPool::Lease SessionPool::make_lease(std::unique_ptr<Session> session, TimePoint now,
                                           std::uint64_t generation) {
  ++busy_;
  const std::size_t place = free_places_.back();
  free_places_.pop_back();
  since_[place] = now;
  return {this, std::move(session), generation, place};
}

std::size_t SessionPool::stuck() const {
  const auto oldest = std::chrono::steady_clock::now() - limits_.deadline;
  return static_cast<std::size_t>(std::count_if(since_.begin(), since_.end(), [&](TimePoint since) {
    return since != TimePoint{} && since < oldest;
  }));
}

SessionPool::Lease SessionPool::open_one(TimePoint until) {
  const Open open = open_session_;
  const auto generation = generation_;
  try {
    std::unique_ptr<Session> session;
    {
      const MutexPause pause(mutex_);
      session = open();
    }
    ever_opened_ = true;
    return make_lease(std::move(session), std::chrono::steady_clock::now(), generation);
  } catch (const Error& error) {
    if (!shrink(error)) {
      give_up_place();
      throw;
    }
  } catch (...) {
    give_up_place();
    throw;
  }
  // The token has no more sessions to give: wait for one of those that work.
  std::vector<Idle> stale;
  const auto now = std::chrono::steady_clock::now();
  if (auto session = take_idle(now, stale)) return make_lease(std::move(session), now, generation_);
  return wait(until);
}

// CloudHSM answers CKR_ARGUMENTS_BAD where CKR_SESSION_COUNT is meant (RELIABILITY 14).
bool SessionPool::shrink(const Error& error) {
  const bool capacity =
      error.rv_class() == RvClass::kCapacity || (ever_opened_ && error.rv() == CKR_ARGUMENTS_BAD);
  if (!capacity || open_ <= 1) return false;
  limit_ = --open_;
  grow_at_ = std::chrono::steady_clock::now() + limits_.grow;
  return true;
}

SessionPool::Lease SessionPool::wait(TimePoint until) {
  if (waiters_.size() >= limits_.queue) {
    throw Error(Error::Kind::kBusy,
                "the queue for a session is full (" + std::to_string(limits_.queue) + ")");
  }
  const char* const all_stuck = "every session is in a call that hangs";
  if (stuck() >= limit_) throw Error(Error::Kind::kStuck, all_stuck);
  Waiter self;
  waiters_.push_back(&self);
  if (!self.ready.wait_until(mutex_, until, [&] { return self.called; })) {
    waiters_.erase(std::find(waiters_.begin(), waiters_.end(), &self));
    if (stuck() >= limit_) throw Error(Error::Kind::kStuck, all_stuck);
    throw Error(Error::Kind::kDeadline, "no session became free within the deadline");
  }
  if (self.session) {
    const auto now = std::chrono::steady_clock::now();
    return make_lease(std::move(self.session), now, self.generation);
  }
  return open_one(until);
}

// Gives the first waiter a session, or the right to open one (open_ counts it already).
void SessionPool::call_first(std::unique_ptr<Session> session) {
  Waiter* first = waiters_.front();
  waiters_.pop_front();
  first->session = std::move(session);
  first->generation = generation_;
  first->called = true;
  first->ready.notify_one();
}

// One session fewer: its place goes to the first waiter, before any new caller.
void SessionPool::give_up_place() {
  if (waiters_.empty() || open_ > limit_) {
    --open_;
  } else {
    call_first(nullptr);
  }
}

void SessionPool::give_back(std::unique_ptr<Session> session, std::uint64_t generation,
                            std::size_t place) {
  MutexLock lock(mutex_);
  --busy_;
  since_[place] = {};
  free_places_.push_back(place);
  if (session->soiled() || generation != generation_ || open_ > limit_) {
    // Closed first: a token that counts its sessions must see this one go before the next comes.
    lock.unlock();
    session.reset();
    lock.lock();
    give_up_place();
  } else if (waiters_.empty()) {
    const bool stamped = limits_.idle.count() != 0;
    idle_.push_back({std::move(session), stamped ? std::chrono::steady_clock::now() : TimePoint{}});
  } else {
    call_first(std::move(session));
  }
}

}  // namespace keyagent::pkcs11
