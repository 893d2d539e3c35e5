#pragma once
// Who may be inside the token now, and who is next.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

namespace keyagent::gate {

// A bounded queue in front of a fixed number of slots, fair between users: one turn for each uid
// that waits. Thread-safe. No thread of its own: a job runs on the thread that submits it when a
// slot is free, and whoever finishes a job takes the next one. A job that does not come back keeps
// its slot.
class Admission {
 public:
  enum class Answer { kRan, kQueued, kBusy };
  // `abandoned`: set by whoever has answered for the job meanwhile; it is then dropped unrun.
  struct Job {
    std::uint32_t uid = 0;
    std::function<void()> run;  // must not throw
    std::shared_ptr<const std::atomic<bool>> abandoned;
  };

  Admission(std::size_t slots, std::size_t queue) : slots_(slots), queue_(queue) {}

  // kRan: the job, and perhaps others that waited, have run on this thread. kBusy: nothing was
  // taken; `job` will never run.
  Answer submit(Job job);

  std::size_t running() const;
  std::size_t waiting() const;

 private:
  bool take_next(Job& job);  // REQUIRES mutex_
  void drop_abandoned();     // REQUIRES mutex_
  void work(Job job);

  const std::size_t slots_, queue_;
  mutable std::mutex mutex_;
  // All below are guarded by mutex_.
  std::size_t running_ = 0, waiting_ = 0;
  std::map<std::uint32_t, std::deque<Job>> jobs_;  // never an empty deque
  std::deque<std::uint32_t> turns_;                // the uids of jobs_, the next one first
};

}  // namespace keyagent::gate
