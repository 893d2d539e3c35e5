// SPDX-License-Identifier: Apache-2.0
#pragma once
// Mutexes that the compiler checks: clang's -Wthread-safety refuses a use of what a mutex guards
// where the mutex is not held. The standard library's mutexes have no such annotations, so the
// rooms use these in their place. Other compilers see the same mutexes without the check.
//
//   Mutex mutex_;
//   std::size_t count_ GUARDED_BY(mutex_) = 0;
//   void forget_old() REQUIRES(mutex_);  // the caller holds it
//
// Each function is checked on its own, a lambda too: one that runs while the mutex is held says
// `[this]() REQUIRES(mutex_) { ... }`. Constructors and destructors are not checked.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <stop_token>
#include <utility>

#if defined(__clang__)
#define KEYAGENT_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define KEYAGENT_THREAD_SAFETY(attribute)
#endif

// Of a member: it is read and written with the mutex held.
#define GUARDED_BY(mutex) KEYAGENT_THREAD_SAFETY(guarded_by(mutex))
// Of a function or a lambda: the caller holds the mutex.
#define REQUIRES(...) KEYAGENT_THREAD_SAFETY(requires_capability(__VA_ARGS__))
// Of a function that returns a reference to the mutex.
#define RETURN_CAPABILITY(mutex) KEYAGENT_THREAD_SAFETY(lock_returned(mutex))
// Of mutexes and of the classes that hold one for a scope.
#define CAPABILITY(name) KEYAGENT_THREAD_SAFETY(capability(name))
#define SCOPED_CAPABILITY KEYAGENT_THREAD_SAFETY(scoped_lockable)
#define ACQUIRE(...) KEYAGENT_THREAD_SAFETY(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) KEYAGENT_THREAD_SAFETY(acquire_shared_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) KEYAGENT_THREAD_SAFETY(try_acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE_SHARED(...) KEYAGENT_THREAD_SAFETY(try_acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) KEYAGENT_THREAD_SAFETY(release_capability(__VA_ARGS__))
#define RELEASE_GENERIC(...) KEYAGENT_THREAD_SAFETY(release_generic_capability(__VA_ARGS__))

namespace keyagent {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  void lock() ACQUIRE() { mutex_.lock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

// The thread that holds it may take it once more.
class CAPABILITY("mutex") RecursiveMutex {
 public:
  RecursiveMutex() = default;
  RecursiveMutex(const RecursiveMutex&) = delete;
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  std::recursive_mutex mutex_;
};

class CAPABILITY("mutex") SharedMutex {
 public:
  SharedMutex() = default;
  SharedMutex(const SharedMutex&) = delete;
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  void lock_shared() ACQUIRE_SHARED() { mutex_.lock_shared(); }
  void unlock_shared() RELEASE_GENERIC() { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
};

// Holds any of the above until it is destroyed, except between unlock() and lock().
template <class AMutex>
class [[nodiscard]] SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(AMutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  // Of a mutex that try_lock() took.
  MutexLock(AMutex& mutex, std::adopt_lock_t) REQUIRES(mutex) : mutex_(mutex) {}
  MutexLock(const MutexLock&) = delete;
  ~MutexLock() RELEASE() {
    if (held_) mutex_.unlock();
  }
  void lock() ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }
  void unlock() RELEASE() {
    held_ = false;
    mutex_.unlock();
  }

 private:
  AMutex& mutex_;
  bool held_ = true;
};

// Gives up for a scope what the caller holds, and has it again at the end, also of one that throws.
template <class AMutex>
class [[nodiscard]] SCOPED_CAPABILITY MutexPause {
 public:
  explicit MutexPause(AMutex& mutex) RELEASE(mutex) : mutex_(mutex) { mutex_.unlock(); }
  MutexPause(const MutexPause&) = delete;
  ~MutexPause() RELEASE() { mutex_.lock(); }  // to clang: what the constructor did is undone

 private:
  AMutex& mutex_;
};

// Shares a SharedMutex until it is destroyed.
class [[nodiscard]] SCOPED_CAPABILITY SharedLock {
 public:
  explicit SharedLock(SharedMutex& mutex) ACQUIRE_SHARED(mutex) : mutex_(mutex) {
    mutex_.lock_shared();
  }
  SharedLock(const SharedLock&) = delete;
  ~SharedLock() RELEASE_GENERIC() { mutex_.unlock_shared(); }

 private:
  SharedMutex& mutex_;
};

// A std::condition_variable for Mutex. The caller holds the mutex; a wait gives it up meanwhile and
// has it again when it returns, or when the condition throws.
class CondVar {
 public:
  CondVar() = default;
  CondVar(const CondVar&) = delete;
  void notify_one() noexcept { changed_.notify_one(); }
  void notify_all() noexcept { changed_.notify_all(); }

  void wait(Mutex& mutex) REQUIRES(mutex) {
    Adopted adopted(mutex);
    changed_.wait(adopted.lock);
  }
  template <class Condition>
  void wait(Mutex& mutex, Condition condition) REQUIRES(mutex) {
    Adopted adopted(mutex);
    changed_.wait(adopted.lock, std::move(condition));
  }
  template <class Clock, class Duration>
  std::cv_status wait_until(Mutex& mutex, const std::chrono::time_point<Clock, Duration>& until)
      REQUIRES(mutex) {
    Adopted adopted(mutex);
    return changed_.wait_until(adopted.lock, until);
  }
  // Whether the condition is true now.
  template <class Clock, class Duration, class Condition>
  bool wait_until(Mutex& mutex, const std::chrono::time_point<Clock, Duration>& until,
                  Condition condition) REQUIRES(mutex) {
    Adopted adopted(mutex);
    return changed_.wait_until(adopted.lock, until, std::move(condition));
  }
  template <class Rep, class Period>
  std::cv_status wait_for(Mutex& mutex, const std::chrono::duration<Rep, Period>& time)
      REQUIRES(mutex) {
    Adopted adopted(mutex);
    return changed_.wait_for(adopted.lock, time);
  }
  template <class Rep, class Period, class Condition>
  bool wait_for(Mutex& mutex, const std::chrono::duration<Rep, Period>& time, Condition condition)
      REQUIRES(mutex) {
    Adopted adopted(mutex);
    return changed_.wait_for(adopted.lock, time, std::move(condition));
  }

 private:
  // The caller's mutex as the standard library wants it.
  struct Adopted {
    explicit Adopted(Mutex& mutex) : lock(mutex.mutex_, std::adopt_lock) {}
    ~Adopted() { lock.release(); }
    std::unique_lock<std::mutex> lock;
  };

  std::condition_variable changed_;
};

// The same for a thread with a stop token: a wait ends when the thread is to stop.
class StoppableCondVar {
 public:
  void notify_all() noexcept { changed_.notify_all(); }
  template <class Rep, class Period, class Condition>
  bool wait_for(Mutex& mutex, const std::stop_token& stop,
                const std::chrono::duration<Rep, Period>& time, Condition condition)
      REQUIRES(mutex) {
    return changed_.wait_for(mutex, stop, time, std::move(condition));
  }

 private:
  std::condition_variable_any changed_;
};

}  // namespace keyagent
