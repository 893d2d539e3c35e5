// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where sockets lie.

#include <filesystem>

namespace keyagent::daemon {

// /run/keyagent is the unit's; a folder of one's own is made where a person runs the agent.
inline void make_socket_folder(const std::filesystem::path& socket) {
  const auto folder = socket.parent_path();
  std::error_code error;
  if (!std::filesystem::exists(folder) && std::filesystem::create_directories(folder, error))
    std::filesystem::permissions(folder, std::filesystem::perms(0755));
}

}  // namespace keyagent::daemon
