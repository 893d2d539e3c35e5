// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agents that the instance knows, and their trust.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

// What is written together with an agent, or not at all.
struct AgentChange {
  std::optional<Event> event{};
  std::string revoke{};                  // reason: all its certificates that are still valid
  std::optional<Challenge> challenge{};  // moved from `challenge_from`
  std::string challenge_from{};
  bool forget_session = false;  // whatever the agent says next is taken
};

class Agents : public Repository {
 public:
  using Repository::Repository;

  // False: an agent with this id, or with this auth_kid, is there.
  bool add(const Agent& agent);
  std::optional<Agent> find(const std::string& id);
  std::optional<Agent> find_by_auth_kid(const std::string& kid);
  std::vector<Agent> all();
  std::int64_t count();
  // Writes all but last_seen if the row still has agent.revision, and raises it, with what belongs
  // to it. False, and nothing is changed: someone was faster, or the challenge was moved.
  bool update(const Agent& agent, const AgentChange& with = {});
  void mark_seen(const std::string& id, WallTime when);
};

}  // namespace keyagent::store
