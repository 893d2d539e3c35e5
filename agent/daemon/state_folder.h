// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's own folder: one agent at a time, and what it does while it cannot write there.

#include <filesystem>
#include <string>

#include "agent/base/disk.h"
#include "agent/base/mutex.h"

namespace keyagent::daemon {

// Thread-safe.
class StateFolder {
 public:
  // Creates and locks it. Throws Error: kBusy when another agent has it, kConfiguration when it is
  // not there and cannot be made, or was never an agent's and cannot be written.
  explicit StateFolder(std::filesystem::path folder);

  // Checks whether the folder can be written, and logs a change. Call it once a second.
  void poll();
  // Why the agent changes nothing, for callers and doctor; empty: the folder can be written.
  std::string use_only() const;
  const std::filesystem::path& path() const { return folder_; }

 private:
  const std::filesystem::path folder_;
  mutable Mutex mutex_;
  FileLock lock_ GUARDED_BY(mutex_);
  std::string why_ GUARDED_BY(mutex_);
  bool held_ GUARDED_BY(mutex_) = false;  // it can be written, but its lock cannot be had
};

}  // namespace keyagent::daemon
