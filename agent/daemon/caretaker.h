#pragma once
// A thread that does one thing once a second, and may hang in the module while it does it.

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace keyagent::daemon {

// Thread-safe.
class Caretaker {
 public:
  explicit Caretaker(std::function<void()> care) : care_(std::move(care)) {}
  ~Caretaker() { stop(); }
  void start();
  void stop();
  // Throws what the last round threw.
  void rethrow_failure();

 private:
  void run();

  const std::function<void()> care_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;          // guarded by mutex_
  std::exception_ptr failure_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace keyagent::daemon
