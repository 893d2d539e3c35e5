// SPDX-License-Identifier: Apache-2.0
#pragma once
// What waits for a second person.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Decisions : public Repository {
 public:
  using Repository::Repository;

  // The decision as it is in the store: the new one, or a pending one of the same person about the
  // same. nullopt, and nothing is changed: `max_open` of this person are pending.
  std::optional<Decision> add(const Decision& decision, std::size_t max_open, const Event& event);
  std::optional<Decision> find(const std::string& id);
  std::vector<Decision> list(const std::string& state, std::size_t count);  // the newest first
  // Changes state, decider, text and time if it still is pending. False: it is not.
  bool decide(const Decision& decision, const Event& event);
  std::vector<Decision> expired(WallTime now, std::size_t count);
  void forget(WallTime changed_before);  // that are not pending
};

}  // namespace keyagent::store
