// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sessions of one token: as many as the profile allows, leased one at a time, with a fair and
// bounded queue.

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/base/mutex.h"
#include "pkcs11/error.h"
#include "pkcs11/session.h"

namespace keyagent::pkcs11 {

// Thread-safe. A lease outlives neither the pool nor the module. Sessions that a call left in doubt
// are closed, never pooled.
class SessionPool {
 public:
  using Open = std::function<std::unique_ptr<Session>()>;
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Counts {
    std::size_t open = 0, busy = 0, limit = 0, waiting = 0;
    std::size_t stuck = 0;  // leases older than the deadline
  };

  // Returns its session on destruction: to the first waiter, to the pool, or closed when soiled or
  // of an older epoch.
  class Lease {
   public:
    Lease(SessionPool* pool, std::unique_ptr<Session> session, std::uint64_t generation,
          std::size_t place)
        : pool_(pool), session_(std::move(session)), generation_(generation), place_(place) {}
    Lease(Lease&&) = default;
    ~Lease() {
      if (session_) pool_->give_back(std::move(session_), generation_, place_);
    }
    Session& operator*() const { return *session_; }

   private:
    SessionPool* pool_;
    std::unique_ptr<Session> session_;
    std::uint64_t generation_;
    std::size_t place_;
  };

  struct Limits {
    std::size_t sessions = 1;                  // at once, at least 1
    std::size_t queue = 1;                     // waiting callers
    std::chrono::milliseconds deadline{5000};  // a lease older than that is stuck
    std::chrono::milliseconds idle{0};         // one that rested longer is not trusted; 0: no limit
    std::chrono::milliseconds grow{60000};     // after a refusal, until one more is tried
  };
  explicit SessionPool(Limits limits);

  // Empties the pool and opens further sessions with `open`; those from before are closed as they
  // come back.
  void restart(Open open);
  // Throws Error{kBusy} when the queue is full, Error{kStuck} when every session is stuck (at once,
  // or at `until`), Error{kDeadline} at `until`, and what `open` throws. A refusal for want of
  // sessions (CKR_SESSION_COUNT and its like, once any session was open) shrinks the limit to what
  // works; it grows again by one after each pause of Limits::grow.
  Lease lease(TimePoint until);
  // Closes the idle ones.
  void clear();
  // Closes the idle ones, and those in use as they come back: what their caches hold is void.
  void renew();
  Counts counts() const;

 private:
  struct Waiter {
    CondVar ready;
    std::unique_ptr<Session> session;  // handed over, or empty: open one in the place of another
    std::uint64_t generation = 0;
    bool called = false;
  };
  struct Idle {
    std::unique_ptr<Session> session;
    TimePoint since;
  };
  void give_back(std::unique_ptr<Session> session, std::uint64_t generation, std::size_t place);
  Lease make_lease(std::unique_ptr<Session> session, TimePoint now, std::uint64_t generation)
      REQUIRES(mutex_);
  std::unique_ptr<Session> take_idle(TimePoint now, std::vector<Idle>& stale) REQUIRES(mutex_);
  std::size_t stuck() const REQUIRES(mutex_);
  // REQUIRES open_ to count the session that is to be opened.
  Lease open_one(TimePoint until) REQUIRES(mutex_);
  Lease wait(TimePoint until) REQUIRES(mutex_);
  void call_first(std::unique_ptr<Session> session) REQUIRES(mutex_);
  void give_up_place() REQUIRES(mutex_);
  bool shrink(const Error& error) REQUIRES(mutex_);

  const Limits limits_;
  mutable Mutex mutex_;
  std::vector<Idle> idle_ GUARDED_BY(mutex_);
  std::deque<Waiter*> waiters_ GUARDED_BY(mutex_);
  // By place: when its lease began; the epoch's zero when free.
  std::vector<TimePoint> since_ GUARDED_BY(mutex_);
  std::vector<std::size_t> free_places_ GUARDED_BY(mutex_);
  // Open sessions, those being opened, and places promised to a waiter: never more than limits_.
  std::size_t open_ GUARDED_BY(mutex_) = 0;
  std::size_t busy_ GUARDED_BY(mutex_) = 0, limit_ GUARDED_BY(mutex_);
  bool ever_opened_ GUARDED_BY(mutex_) = false;
  TimePoint grow_at_ GUARDED_BY(mutex_){};
  std::uint64_t generation_ GUARDED_BY(mutex_) = 0;
  Open open_session_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::pkcs11
