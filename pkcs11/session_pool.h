#pragma once
// Sessions of one token: as many as the profile allows, leased one at a time, with a fair and
// bounded queue.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

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
    Lease(SessionPool* pool, std::unique_ptr<Session> session, std::uint64_t epoch,
          std::size_t place)
        : pool_(pool), session_(std::move(session)), epoch_(epoch), place_(place) {}
    Lease(Lease&&) = default;
    ~Lease() {
      if (session_) pool_->give_back(std::move(session_), epoch_, place_);
    }
    Session& operator*() const { return *session_; }
    std::uint64_t epoch() const { return epoch_; }

   private:
    SessionPool* pool_;
    std::unique_ptr<Session> session_;
    std::uint64_t epoch_;
    std::size_t place_;
  };

  // `limit`: sessions at once (at least 1); `queue`: waiting callers; `deadline`: a lease older
  // than that is stuck.
  SessionPool(std::size_t limit, std::size_t queue, std::chrono::milliseconds deadline);

  // Empties the pool and opens further sessions with `open`; those of an older epoch are closed as
  // they come back.
  void restart(std::uint64_t epoch, Open open);
  // Throws Error{kBusy} when the queue is full, Error{kStuck} when every session is stuck,
  // Error{kDeadline} at `until`, and what `open` throws. A refusal for want of sessions
  // (CKR_SESSION_COUNT and its like, once any session was open) shrinks the limit to what works; it
  // grows again by one each minute.
  Lease lease(TimePoint until);
  // Closes the idle ones.
  void clear();
  Counts counts() const;

 private:
  struct Waiter {
    std::condition_variable ready;
    std::unique_ptr<Session> session;
    bool called = false;
  };
  void give_back(std::unique_ptr<Session> session, std::uint64_t epoch, std::size_t place);
  Lease make_lease(std::unique_ptr<Session> session);
  std::size_t stuck() const;
  Lease open_one(std::unique_lock<std::mutex>& lock, TimePoint until);
  Lease wait(std::unique_lock<std::mutex>& lock, TimePoint until);
  void call_first();
  bool shrink(const Error& error);

  const std::size_t wanted_, queue_;
  const std::chrono::milliseconds deadline_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;
  std::deque<Waiter*> waiters_;
  std::vector<TimePoint> since_;  // by place: when its lease began; the epoch's zero when free
  std::vector<std::size_t> free_places_;
  std::size_t open_ = 0, busy_ = 0, limit_;
  bool ever_opened_ = false;
  TimePoint grow_at_{};
  std::uint64_t epoch_ = 0;
  Open open_session_;
};

}  // namespace keyagent::pkcs11
