// SPDX-License-Identifier: Apache-2.0
#pragma once
// The root directory as it was when a program started, for programs that leave it: HAProxy, BIND,
// stunnel and others call chroot(2) after they loaded their keys, and must find the agent's socket
// again when the agent was restarted (RELIABILITY 174).

#include <filesystem>
#include <functional>

#include "agent/base/disk.h"

namespace keyagent::client {

// Thread-safe. One descriptor (O_PATH) that lives as long as the object. An attacker that controls
// the process could use it to leave the chroot; agent/openssl/README.md describes that, and how to
// do without.
class RootFolder {
 public:
  RootFolder();
  // This process has another root directory now, and the descriptor is still the old one.
  bool left() const;
  // Runs `work` with a path that names, in the old root, what `path` (absolute) named there. Uses a
  // temporary thread with a separate working directory (unshare(CLONE_FS)); when none can be
  // started, uses this thread, restores its directory, and leaves it with an unshared one. Neither
  // /proc nor privileges are needed. Rethrows what `work` throws; throws Error{kPeer} when the
  // system refuses.
  using Work = std::function<void(const std::filesystem::path&)>;
  void run(const std::filesystem::path& path, const Work& work) const;

 private:
  void enter() const;
  void run_here(const std::filesystem::path& path, const Work& work) const;

  Fd fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace keyagent::client
