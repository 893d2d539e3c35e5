// SPDX-License-Identifier: Apache-2.0
#pragma once
// Re-encryption of a specification's records: who works at it, and how far it is.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Reencryptions : public Repository {
 public:
  using Repository::Repository;

  // False: one of this specification is running or paused. Another one takes the place of the last.
  bool begin(const Reencryption& job, const Event& event);
  std::optional<Reencryption> find(const std::string& specification);
  std::vector<Reencryption> all();
  // A running one that no one works at, or whose lease is over (or longer than two are), for this
  // holder alone; its fence is raised.
  std::optional<Reencryption> claim(const std::string& holder, WallTime now,
                                    std::chrono::milliseconds life);
  // Writes it if the row still has job.fence, and raises that.
  bool move(const Reencryption& job, const std::optional<Event>& event = std::nullopt);
  // The checkpoint with what it is about: each record that still has the envelope `before` gets
  // `after`, unless that one's key was closed meanwhile. How many did; `done` and the fence of the
  // row and of the job follow. nullopt, and nothing is changed: the row has another fence.
  std::optional<std::int64_t> write_records(Reencryption& job,
                                            const std::vector<Replacement>& replacements);
};

}  // namespace keyagent::store
