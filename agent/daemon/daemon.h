// SPDX-License-Identifier: Apache-2.0
#pragma once
// The composition root: configuration in, objects out, each with its owner. Nothing else constructs
// services.

#include <memory>

#include "agent/config/config.h"

namespace keyagent::daemon {

// One running agent. Signals must be blocked before it is made (it starts threads).
class Daemon {
 public:
  // Throws Error: configuration, another agent, a ledger that must not be used. A token that is not
  // there is no error.
  explicit Daemon(config::AgentConfig config);
  ~Daemon();

  // Serves until SIGTERM or SIGINT. SIGHUP reloads the policy and the limits. Returns the exit
  // status.
  int run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::daemon
