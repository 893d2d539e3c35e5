// SPDX-License-Identifier: Apache-2.0
#pragma once
// A copy of an instance's data, for another instance: what Store::clone() is asked for and does.

#include <cstdint>
#include <functional>
#include <string>

#include "agent/store/rows.h"

namespace keyagent::store {

class Database;

struct CloneOrder {
  std::string url;     // the store to copy from
  std::string source;  // the identity of its instance, for Store::cloned_from()
  bool users = false;
};
struct CloneCounts {
  std::int64_t specifications = 0, data_keys = 0, records = 0, credentials = 0, users = 0;
};

// The setting that has CloneOrder::source.
inline constexpr const char* kClonedFrom = "cloned-from";

// Internal to the room: Store::clone().
CloneCounts clone_into(Database& database, const CloneOrder& order,
                       const std::function<Event(CloneCounts)>& event);

}  // namespace keyagent::store
