// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a peer must answer in time.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Challenges : public Repository {
 public:
  using Repository::Repository;

  void add(const Challenge& challenge, WallTime now);  // drops those that have expired
  std::optional<Challenge> find(const std::string& id, WallTime now);  // not expired
  std::vector<Challenge> all(const std::string& kind, WallTime now);   // not expired
  // Changes state, data and expiry if it is still in state `from`.
  bool move(const Challenge& challenge, const std::string& from);
  // Not expired; of one address (empty: all).
  std::int64_t count(const std::string& kind, const std::string& address, WallTime now);
};

}  // namespace keyagent::store
