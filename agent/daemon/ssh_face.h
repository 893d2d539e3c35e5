// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's second socket: ssh-agent's protocol on the server that the first one has.

#include "agent/config/config.h"
#include "agent/daemon/ssh_confirmation.h"
#include "agent/net/unix_server.h"
#include "agent/sshagent/ssh_agent.h"

namespace keyagent::daemon {

// Serves from its construction to its destruction, which waits as ~UnixServer does. What `ask`
// needs must live longer.
class SshFace {
 public:
  // Throws Error{kConfiguration} when the socket cannot be.
  SshFace(const config::SshConfig& config, unsigned threads, net::Limits limits,
          sshagent::SshAgent::Ask ask, SshConfirmation::Record record);
  // Open questions are answered with no.
  ~SshFace() { confirmation_->stop(); }
  void set_limits(net::Limits limits);

 private:
  const std::shared_ptr<SshConfirmation> confirmation_;
  sshagent::SshAgent agent_;
  net::UnixServer server_;
};

}  // namespace keyagent::daemon
