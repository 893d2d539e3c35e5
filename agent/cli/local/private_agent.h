// SPDX-License-Identifier: Apache-2.0
#pragma once
// An agent that runs as a child of this process.

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/process/supervisor.h"

namespace keyagent::cli {

// A signal asked this process to end meanwhile.
struct Interrupted {
  int signal;
};
// Throws Interrupted.
void require_uninterrupted(const process::Supervisor& supervisor);

// Time for an agent to end after SIGTERM.
inline constexpr std::chrono::milliseconds kAgentEnd{15000};

struct PrivateAgent {
  std::filesystem::path config, socket, log;
};
// Starts keyagentd and returns when it answers. Throws Interrupted; Error{kPeer} with its last
// messages when it does not answer.
pid_t start_agent(process::Supervisor& supervisor, const PrivateAgent& agent);

// The end of a log, for people.
std::string end_of(const std::filesystem::path& log);

// Of this process, each as "NAME=value".
std::vector<std::string> own_environment();
void remove_variable(std::vector<std::string>& variables, const std::string& name);
void set_variable(std::vector<std::string>& variables, const std::string& name,
                  const std::string& value);

}  // namespace keyagent::cli
