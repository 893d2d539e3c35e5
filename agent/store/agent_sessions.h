// SPDX-License-Identifier: Apache-2.0
#pragma once
// How far each agent's sessions went: what tells two copies of one agent.

#include <string>

#include "agent/base/clock.h"
#include "agent/store/engine/repository.h"

namespace keyagent::store {

class AgentSessions : public Repository {
 public:
  using Repository::Repository;

  // A session of the agent begins. `last`: the value that it knows this store to have; `next`: the
  // one that is to be there now; both empty: an agent that keeps none. False: the store has
  // another, so that two have gone on from one state.
  bool advance(const std::string& agent, WallTime enrolled, const std::string& last,
               const std::string& next);
};

}  // namespace keyagent::store
