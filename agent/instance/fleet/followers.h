// SPDX-License-Identifier: Apache-2.0
#pragma once
// What other parts of an instance do after a change of an agent. The instance implements it;
// NoFollowers is for parts of the fleet that are used alone.

#include <string>

namespace keyagent::instance {

// Thread-safe. Called outside of transactions.
class Followers {
 public:
  virtual ~Followers() = default;
  // A transport key was staged, trusted or dropped: the agent's sealed copies follow.
  virtual void follow_transport(const std::string& agent) = 0;
  // Ends the TLS sessions of a key at this replica.
  virtual void end_sessions(const std::string& kid, const std::string& why) = 0;
  // Sends the agent, which has a link at this replica, the names of its credentials.
  virtual void send_assigned(const std::string& agent) = 0;
};

class NoFollowers final : public Followers {
 public:
  void follow_transport(const std::string&) override {}
  void end_sessions(const std::string&, const std::string&) override {}
  void send_assigned(const std::string&) override {}
};

}  // namespace keyagent::instance
