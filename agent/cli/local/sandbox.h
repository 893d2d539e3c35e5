// SPDX-License-Identifier: Apache-2.0
#pragma once
// A token, an agent and a policy that exist while a program runs.

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/disk.h"
#include "agent/process/supervisor.h"

namespace keyagent::cli {

// "[NAME=]PURPOSE[:ALGORITHM]"; the name is the purpose if there is none.
struct SandboxKey {
  std::string name, purpose, algorithm;
};
SandboxKey parse_sandbox_key(const std::string& text);

// In a folder that only this user can enter, below $TMPDIR or /tmp. A separate process removes it
// when this object or this process ends, also by SIGKILL. All functions throw Interrupted when the
// supervisor was interrupted.
class Sandbox {
 public:
  // REQUIRES: no other thread, and a supervisor that outlives this object. Throws
  // Error{kConfiguration}: SoftHSM2 is missing (with its package), or the folder cannot be made;
  // Error{kTokenFault}: the token cannot be made.
  Sandbox(process::Supervisor& supervisor, const std::string& profile);
  Sandbox(const Sandbox&) = delete;
  // Ends all children of the supervisor, and removes the folder.
  ~Sandbox();

  // Throws what start_agent() of private_agent.h throws.
  void start_agent();
  void create(const SandboxKey& key);
  // Replaces the policy, which allows this user everything but exports. Throws
  // Error{kConfiguration} where the agent refuses it.
  void use_policy(const std::filesystem::path& file);
  // This process's environment with what programs need to find the agent; no secret.
  std::vector<std::string> environment() const;
  // The agent's last messages; empty while it runs.
  std::string why_agent_ended();

 private:
  std::filesystem::path socket() const { return folder_ / "run/agent.sock"; }
  std::filesystem::path ssh_socket() const { return folder_ / "run/ssh.sock"; }
  void make_folder();
  void start_remover();
  void make_token(const std::string& profile);
  void write_openssl_conf();

  process::Supervisor& supervisor_;
  std::filesystem::path folder_;
  Fd keep_folder_;  // the remover waits until this process has closed it
  pid_t remover_ = 0, agent_ = 0;
};

}  // namespace keyagent::cli
