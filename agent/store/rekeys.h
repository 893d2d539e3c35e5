// SPDX-License-Identifier: Apache-2.0
#pragma once
// Orders to agents to replace a key, and the batches that they come in.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

struct RekeyCounts {
  std::int64_t under_way = 0, failed = 0, open_canaries = 0;
};

class Rekeys : public Repository {
 public:
  using Repository::Repository;

  std::int64_t add(const Rekey& rekey);
  // All of them, or none; `setting` says how the batch is to be done.
  void add_batch(const std::vector<Rekey>& rekeys, const std::string& setting,
                 const std::string& value);
  std::optional<Rekey> find(std::int64_t id);
  std::vector<Rekey> list(const std::string& agent, bool open_only);  // empty agent: of all
  std::vector<Rekey> of_batch(const std::string& batch);
  std::vector<std::string> ordered_batches();  // those with an order that was not sent yet
  RekeyCounts count(const std::string& batch);
  // Those in state "ordered" whose agent has its link at this replica, canaries alone or all.
  std::vector<Rekey> ready(const std::string& batch, const std::string& replica, bool canaries,
                           std::size_t count);
  std::vector<Rekey> sent(const std::string& agent);  // in progress; empty agent: of all
  // Changes state, kids and detail if it is still in state `from`.
  bool move(const Rekey& rekey, const std::string& from);
  // The same to "confirmed", while the agent is trusted with rekey.new_kid.
  bool confirm(const Rekey& rekey, const std::string& from);
  // From "ordered" to "sent", each for one replica alone, while of the batch fewer than
  // `max_under_way` are under way, none has failed, and all canaries have ended (or it is one).
  // Returns those claimed.
  std::vector<Rekey> claim(const std::string& batch, const std::vector<Rekey>& wanted,
                           std::int64_t max_under_way, WallTime now);
};

}  // namespace keyagent::store
