// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where sockets lie.

#include <filesystem>

namespace keyagent::daemon {

// systemd creates /run/keyagent; any other folder is created here, for an agent started by a user.
inline void make_socket_folder(const std::filesystem::path& socket) {
  const auto folder = socket.parent_path();
  std::error_code error;
  if (!std::filesystem::exists(folder) && std::filesystem::create_directories(folder, error))
    std::filesystem::permissions(folder, std::filesystem::perms(0755));
}

}  // namespace keyagent::daemon
