// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which replica has the link of which agent.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Links : public Repository {
 public:
  using Repository::Repository;

  // The newest link of an agent is its only one; `session` and `news` are set by the store. Its
  // agent is seen now.
  EnteredLink open(const AgentLink& link);
  // The link is seen, and its agent too. False: it is not the agent's link anymore.
  bool record_heartbeat(const std::string& agent, std::int64_t session, WallTime now);
  void close(const std::string& agent, std::int64_t session);
  void bump_generation(const std::string& agent);
  std::optional<AgentLink> find(const std::string& agent);
  // The links that are at this replica; all, or of one agent.
  std::vector<LinkStatus> status(const std::string& replica, const std::string& agent);
};

}  // namespace keyagent::store
