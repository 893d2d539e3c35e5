#include "pkcs11/session_pool.h"

#include <algorithm>
#include <utility>

#include "pkcs11/error.h"

namespace keyagent::pkcs11 {
namespace {

constexpr auto kGrowAgain = std::chrono::minutes(1);

}  // namespace

SessionPool::SessionPool(std::size_t limit, std::size_t queue, std::chrono::milliseconds deadline)
    : wanted_(std::max<std::size_t>(limit, 1)),
      queue_(queue),
      deadline_(deadline),
      since_(wanted_),
      limit_(wanted_) {
  for (std::size_t place = 0; place < wanted_; ++place) free_places_.push_back(place);
}

void SessionPool::restart(std::uint64_t epoch, Open open) {
  std::vector<std::unique_ptr<Session>> old;
  const std::lock_guard lock(mutex_);
  old.swap(idle_);
  open_ -= old.size();
  epoch_ = epoch;
  limit_ = wanted_;
  open_session_ = std::move(open);
}

void SessionPool::clear() {
  std::vector<std::unique_ptr<Session>> old;
  const std::lock_guard lock(mutex_);
  old.swap(idle_);
  open_ -= old.size();
}

SessionPool::Counts SessionPool::counts() const {
  const std::lock_guard lock(mutex_);
  return {open_, busy_, limit_, waiters_.size(), stuck()};
}

SessionPool::Lease SessionPool::lease(TimePoint until) {
  std::unique_lock lock(mutex_);
  if (!idle_.empty()) {
    auto session = std::move(idle_.back());
    idle_.pop_back();
    return make_lease(std::move(session));
  }
  if (limit_ < wanted_ && std::chrono::steady_clock::now() >= grow_at_) {
    ++limit_;
    grow_at_ = std::chrono::steady_clock::now() + kGrowAgain;
  }
  if (open_ < limit_) return open_one(lock, until);
  return wait(lock, until);
}

SessionPool::Lease SessionPool::make_lease(std::unique_ptr<Session> session) {
  ++busy_;
  const std::size_t place = free_places_.back();
  free_places_.pop_back();
  since_[place] = std::chrono::steady_clock::now();
  return {this, std::move(session), epoch_, place};
}

std::size_t SessionPool::stuck() const {
  const auto oldest = std::chrono::steady_clock::now() - deadline_;
  return static_cast<std::size_t>(std::count_if(since_.begin(), since_.end(), [&](TimePoint since) {
    return since != TimePoint{} && since < oldest;
  }));
}

SessionPool::Lease SessionPool::open_one(std::unique_lock<std::mutex>& lock, TimePoint until) {
  ++open_;
  const Open open = open_session_;
  lock.unlock();
  try {
    auto session = open();
    lock.lock();
    ever_opened_ = true;
    return make_lease(std::move(session));
  } catch (const Error& error) {
    lock.lock();
    --open_;
    if (!shrink(error)) {
      call_first();
      throw;
    }
  }
  // The token has no more sessions to give: wait for one of those that work.
  if (!idle_.empty()) {
    auto session = std::move(idle_.back());
    idle_.pop_back();
    return make_lease(std::move(session));
  }
  return wait(lock, until);
}

// CloudHSM answers CKR_ARGUMENTS_BAD where CKR_SESSION_COUNT is meant (RELIABILITY 14).
bool SessionPool::shrink(const Error& error) {
  const bool capacity =
      error.rv_class() == RvClass::kCapacity || (ever_opened_ && error.rv() == CKR_ARGUMENTS_BAD);
  if (!capacity || open_ == 0) return false;
  limit_ = open_;
  grow_at_ = std::chrono::steady_clock::now() + kGrowAgain;
  return true;
}

SessionPool::Lease SessionPool::wait(std::unique_lock<std::mutex>& lock, TimePoint until) {
  if (waiters_.size() >= queue_) {
    throw Error(Error::Kind::kBusy,
                "the queue for a session is full (" + std::to_string(queue_) + ")");
  }
  if (stuck() >= limit_) {
    throw Error(Error::Kind::kStuck, "every session is inside a call that does not come back");
  }
  Waiter self;
  waiters_.push_back(&self);
  if (!self.ready.wait_until(lock, until, [&] { return self.called; })) {
    waiters_.erase(std::find(waiters_.begin(), waiters_.end(), &self));
    throw Error(Error::Kind::kDeadline, "no session became free within the deadline");
  }
  if (self.session) return make_lease(std::move(self.session));
  return open_one(lock, until);
}

void SessionPool::call_first() {
  if (waiters_.empty()) return;
  Waiter* first = waiters_.front();
  waiters_.pop_front();
  first->called = true;
  first->ready.notify_one();
}

void SessionPool::give_back(std::unique_ptr<Session> session, std::uint64_t epoch,
                            std::size_t place) {
  std::unique_lock lock(mutex_);
  --busy_;
  since_[place] = {};
  free_places_.push_back(place);
  if (session->soiled() || epoch != epoch_) {
    --open_;
    call_first();
    lock.unlock();
    session.reset();
    return;
  }
  if (waiters_.empty()) {
    idle_.push_back(std::move(session));
    return;
  }
  waiters_.front()->session = std::move(session);
  call_first();
}

}  // namespace keyagent::pkcs11
