// SPDX-License-Identifier: Apache-2.0
#pragma once
// A PKCS#11 module in this process: loaded once, initialized once, reloaded only when no call is
// inside.

#include <p11-kit/pkcs11.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "agent/base/mutex.h"
#include "pkcs11/deadline_mutex.h"
#include "pkcs11/profile.h"

namespace keyagent::pkcs11 {

// Required before a profile's module is loaded: selects its file (the first of the profile's paths
// that exists, with the checks of Module::open()), ignores SIGPIPE, sets the profile's environment.
// Throws Error{kModule}.
std::filesystem::path prepare_module(const Profile& profile,
                                     const std::filesystem::path& state_folder);

// A run of Cryptoki from C_Initialize to C_Finalize, and the next one after a reload. Thread-safe.
// The shared object is never unloaded: modules leave threads and exit handlers behind.
class Module {
 public:
  // The module of the profile's first path that exists; a second call for the same file gives the
  // same object while it lives. Sets the profile's environment and ignores SIGPIPE before the file
  // is loaded (a module that loses its server would kill the process, RELIABILITY 47). Not yet
  // initialized: reload() does that. Throws Error{kModule}: not absolute, not there, writable by
  // others than root and this user, no C_GetFunctionList.
  static std::shared_ptr<Module> open(const Profile& profile,
                                      const std::filesystem::path& state_folder);
  ~Module();
  Module(const Module&) = delete;

  using TimePoint = std::chrono::steady_clock::time_point;

  CK_FUNCTION_LIST* functions() const { return functions_; }
  const std::filesystem::path& path() const { return path_; }
  // Of the file as it was when it was loaded, in hex: a package upgrade replaces the file under a
  // running process, which continues with the old one (RELIABILITY 51).
  const std::string& sha256() const { return sha256_; }
  // Grows with each C_Initialize that succeeded, 0 before the first; sessions and handles of an
  // older epoch are void.
  std::uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }
  bool initialized() const { return initialized_.load(std::memory_order_acquire); }

  // False in a child that was forked after the module was loaded: the child has the parent's login
  // and sessions, and would use and close them under it (X7, RELIABILITY 36).
  bool ours() const;

  // Held (shared) around every call into the module, and while waiting for a session. Throws
  // Error{kStuck} when a reload does not let anybody in before `until`, Error{kModule} in a forked
  // child.
  using Entry = std::shared_lock<DeadlineMutex>;
  Entry enter(TimePoint until);

  // Serializes calls, if the profile requires it or the module answered CKR_CANT_LOCK (RELIABILITY
  // 43). Taken after an Entry. Empty when the module is thread-safe. Throws Error{kStuck}.
  using OneCall = std::unique_lock<DeadlineMutex>;
  OneCall one_call(TimePoint until);
  bool serialized() const { return serialized_.load(std::memory_order_acquire); }

  // Held while objects are searched or copied: a session copy in the making is seen by SoftHSM's
  // C_FindObjects as a second token object (measured), which would make its key ambiguous.
  Mutex& searching() { return searching_; }

  // Calls C_Finalize and C_Initialize, unless the epoch is no longer `seen` (then another thread
  // did). Waits until `until` for running calls to return: false when one did not. Throws
  // Error{kModule} when C_Initialize fails; a later call tries again.
  bool reload(std::uint64_t seen, TimePoint until);

 private:
  Module(const Profile& profile, std::filesystem::path path);
  void initialize();

  void require_ours() const;

  const std::filesystem::path path_;
  const std::string sha256_;
  const unsigned forks_;  // of this process and its forebears when the module was loaded
  const std::string init_args_;
  const bool os_locking_;
  CK_FUNCTION_LIST* functions_ = nullptr;
  DeadlineMutex inside_;  // shared by calls, owned by a reload
  DeadlineMutex one_call_;
  Mutex searching_;
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<bool> initialized_{false};
  std::atomic<bool> serialized_;
};

}  // namespace keyagent::pkcs11
