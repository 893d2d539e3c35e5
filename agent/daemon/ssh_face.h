#pragma once
// The agent's second socket: ssh-agent's protocol on the server that the first one has.

#include "agent/config/config.h"
#include "agent/net/unix_server.h"
#include "agent/sshagent/ssh_agent.h"

namespace keyagent::daemon {

// Serves from its construction to its destruction, which waits as ~UnixServer does. What `ask`
// needs must live longer.
class SshFace {
 public:
  // Throws Error{kConfiguration} when the socket cannot be.
  SshFace(const config::SshConfig& config, unsigned threads, net::Limits limits,
          sshagent::SshAgent::Ask ask);
  void set_limits(net::Limits limits);

 private:
  sshagent::SshAgent agent_;
  net::UnixServer server_;
};

}  // namespace keyagent::daemon
