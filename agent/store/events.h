// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's audit log.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Events : public Repository {
 public:
  using Repository::Repository;

  // Numbers are given without gaps, and become visible in their order. What is not UTF-8 is
  // escaped.
  std::int64_t add(const Event& event);
  std::vector<Event> list(std::int64_t after_seq, std::size_t count);
  // The last ones, in the order of their numbers.
  std::vector<Event> newest(std::size_t count);
  std::int64_t last_number();  // 0: there is none
  // Of a kind: "done", "refused" (with "failed") or "alarm".
  std::int64_t count(const std::string& outcome);
  // Keeps the newest `max_kept` of a kind, and none from before. Returns how many have gone;
  // numbers continue.
  std::int64_t forget(const std::string& outcome, std::int64_t max_kept, WallTime before);
};

}  // namespace keyagent::store
