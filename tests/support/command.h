// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shell commands of tests.

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace keyagent::test {

struct CommandResult {
  int status = 0;      // exit status, or 128 + signal
  std::string output;  // standard output; add 2>&1 for both
};

inline CommandResult try_command(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen failed: " + command);
  CommandResult result;
  std::array<char, 4096> buffer;
  for (std::size_t count = 0; (count = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    result.output.append(buffer.data(), count);
  }
  const int raw = ::pclose(pipe);
  result.status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
  return result;
}

// Its standard output; throws with the output when it does not exit with 0.
inline std::string run_command(const std::string& command) {
  auto result = try_command(command + " 2>&1");
  if (result.status != 0)
    throw std::runtime_error(command + " failed (" + std::to_string(result.status) + "):\n" +
                             result.output);
  return result.output;
}

// Whether a process can get private mounts: not when its root is not a mount point (a chroot).
inline bool mounts_can_be_private() {
  return try_command("unshare -m true 2>&1").status == 0;
}

}  // namespace keyagent::test
