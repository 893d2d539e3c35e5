// SPDX-License-Identifier: Apache-2.0
#include "agent/base/mutex.h"

#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

// Whether another thread gets it now.
bool is_free(Mutex& mutex) {
  return std::async(std::launch::async,
                    [&mutex] {
                      if (!mutex.try_lock()) return false;
                      mutex.unlock();
                      return true;
                    })
      .get();
}

// What a class of the rooms looks like: without the lock in add() or the REQUIRES of either
// function, clang does not compile it.
class Sum {
 public:
  void add(int count) {
    const MutexLock lock(mutex_);
    add_locked(count);
    changed_.notify_all();
  }
  void wait_for(int sum) {
    const MutexLock lock(mutex_);
    changed_.wait(mutex_, [this, sum]() REQUIRES(mutex_) { return sum_ >= sum; });
  }
  int get() const {
    const MutexLock lock(mutex_);
    return sum_;
  }

 private:
  void add_locked(int count) REQUIRES(mutex_) { sum_ += count; }

  mutable Mutex mutex_;
  CondVar changed_;
  int sum_ GUARDED_BY(mutex_) = 0;
};

TEST(Mutex, ThreadsTakeTurns) {
  Sum sum;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&sum] {
      for (int k = 0; k < 1000; ++k) sum.add(1);
    });
  sum.wait_for(4000);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sum.get(), 4000);
}

TEST(Mutex, ALockEndsWithItsScopeAndMayPause) {
  Mutex mutex;
  {
    MutexLock lock(mutex);
    EXPECT_FALSE(is_free(mutex));
    lock.unlock();
    EXPECT_TRUE(is_free(mutex));
    lock.lock();
    EXPECT_FALSE(is_free(mutex));
  }
  EXPECT_TRUE(is_free(mutex));
  {
    MutexLock lock(mutex);
    lock.unlock();
  }
  EXPECT_TRUE(is_free(mutex)) << "a paused lock gives nothing back";
  if (!mutex.try_lock()) GTEST_FAIL() << "it is free";
  {
    const MutexLock lock(mutex, std::adopt_lock);
    EXPECT_FALSE(is_free(mutex));
  }
  EXPECT_TRUE(is_free(mutex));
}

TEST(Mutex, APauseHasTheMutexAgainAtItsEnd) {
  Mutex mutex;
  {
    const MutexLock lock(mutex);
    {
      const MutexPause pause(mutex);
      EXPECT_TRUE(is_free(mutex));
    }
    EXPECT_FALSE(is_free(mutex));
    try {
      const MutexPause pause(mutex);
      throw std::runtime_error("no");
    } catch (const std::runtime_error&) {
      EXPECT_FALSE(is_free(mutex)) << "also of a scope that throws";
    }
  }
  EXPECT_TRUE(is_free(mutex));
}

TEST(Mutex, AWaitGivesTheMutexUpAndHasItAgain) {
  Mutex mutex;
  CondVar changed;
  const MutexLock lock(mutex);
  EXPECT_EQ(changed.wait_for(mutex, 0ms), std::cv_status::timeout);
  EXPECT_EQ(changed.wait_until(mutex, Steady::now()), std::cv_status::timeout);
  EXPECT_FALSE(changed.wait_for(mutex, 0ms, [] { return false; }));
  EXPECT_FALSE(changed.wait_until(mutex, Steady::now(), [] { return false; }));
  EXPECT_TRUE(changed.wait_until(mutex, Steady::now(), [] { return true; }));
  EXPECT_FALSE(is_free(mutex));
  bool seen = false;  // the mutex could be had during the wait
  std::thread other([&] {
    const MutexLock theirs(mutex);
    seen = true;
    changed.notify_one();
  });
  while (!seen) changed.wait(mutex);
  EXPECT_FALSE(is_free(mutex));
  other.join();
}

TEST(Mutex, AConditionThatThrowsLeavesTheMutexHeld) {
  Mutex mutex;
  CondVar changed;
  {
    const MutexLock lock(mutex);
    EXPECT_THROW(changed.wait(mutex, []() -> bool { throw std::runtime_error("no"); }),
                 std::runtime_error);
    EXPECT_FALSE(is_free(mutex));
  }
  EXPECT_TRUE(is_free(mutex));
}

TEST(Mutex, AStopEndsAWait) {
  Mutex mutex;
  StoppableCondVar changed;
  bool waits = false;
  std::jthread thread([&](const std::stop_token& stop) {
    const MutexLock lock(mutex);
    waits = true;
    while (!stop.stop_requested()) changed.wait_for(mutex, stop, 1h, [] { return false; });
  });
  // Whoever has the mutex then found the thread in its wait.
  const auto is_waiting = [&] {
    const MutexLock lock(mutex);
    return waits;
  };
  while (!is_waiting()) std::this_thread::yield();
  thread.request_stop();
  thread.join();
  EXPECT_TRUE(is_free(mutex));
}

TEST(Mutex, SharedAndRecursiveOnesAreWhatTheyAreCalled) {
  SharedMutex shared;
  const auto shares = [&shared] {
    const SharedLock lock(shared);
    return true;
  };
  {
    const SharedLock lock(shared);
    EXPECT_TRUE(std::async(std::launch::async, shares).get());
  }
  const MutexLock alone(shared);
  RecursiveMutex recursive;
  const MutexLock once(recursive);
  const auto again = [&recursive]() {
    const MutexLock twice(recursive);
    return true;
  };
  EXPECT_TRUE(again());
}

}  // namespace
}  // namespace keyagent::test
