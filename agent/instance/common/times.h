// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times that users write. Internal to this room.

#include <string>

#include "agent/base/clock.h"

namespace keyagent::instance {

// RFC 3339 in UTC, with milliseconds or without: "2027-01-01T00:00:00Z". Throws Error{kUsage}.
inline WallTime parse_time_of_user(std::string text) {
  constexpr std::size_t kSeconds = sizeof("2027-01-01T00:00:00Z") - 1;
  if (text.size() == kSeconds && text.back() == 'Z') text.insert(kSeconds - 1, ".000");
  return parse_rfc3339(text);
}

}  // namespace keyagent::instance
