// SPDX-License-Identifier: Apache-2.0
// Plays an attacker, or the owner beside one, against a running agent and instance
// (scripts/attack).
//   attack --role local-user|network|agent|instance-process|owner --seconds N …
#include <csignal>
#include <stdexcept>

#include "tests/attack/attempts.h"

namespace keyagent::attack {
namespace {

int body(const bench::Arguments& arguments) {
  const std::string role = arguments.text("role");
  if (role == "network" || role == "agent") connect_from_elsewhere();
  if (role == "local-user") return local_user(arguments);
  if (role == "network") return network_stranger(arguments);
  if (role == "agent") return enrolled_agent(arguments);
  if (role == "instance-process") return instance_process(arguments);
  if (role == "owner") return owner(arguments);
  throw std::runtime_error("--role local-user|network|agent|instance-process|owner");
}

}  // namespace
}  // namespace keyagent::attack

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  return keyagent::bench::guarded(argc, argv, keyagent::attack::body);
}
