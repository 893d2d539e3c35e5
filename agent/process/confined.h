// SPDX-License-Identifier: Apache-2.0
#pragma once
// A program of the operator's, started with less than this process has.

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/disk.h"

namespace keyagent::process {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // the supplementary ones
};
// With the groups that this host gives it. Throws Error{kConfiguration}: there is no such user.
User user_of(const std::string& name);

struct Confined {
  std::filesystem::path program;         // absolute; it gets no arguments
  std::vector<std::string> environment;  // "NAME=value": nothing else is inherited
  // Its descriptors 0, 1, 2 and 3; it has no other. `extra` < 0: no 3 either.
  int input = -1, output = -1, error = -1, extra = -1;
  std::optional<User> user;  // REQUIRES: this process may become it
  std::uint64_t memory = 0;  // limit of the address space in bytes; 0: inherited
};

// A pipe of two descriptors that no program inherits. Throws Error{kInternal}.
struct Pipe {
  Fd read, write;
};
Pipe make_pipe();

// Starts it in a new session and process group, whose number is returned; the caller waits for it.
// It is killed when the calling *thread* ends, gains no privileges, dumps no core, and runs with
// umask 077. Thread-safe. Throws Error{kPeer} when it cannot be started; then no code of it has
// run.
pid_t spawn_confined(const Confined& what);

}  // namespace keyagent::process
