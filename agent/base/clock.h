// SPDX-License-Identifier: Apache-2.0
#pragma once
// Time as a dependency: tests move it, production reads it.

#include <chrono>
#include <string>
#include <string_view>

namespace keyagent {

using WallTime = std::chrono::system_clock::time_point;
using SteadyTime = std::chrono::steady_clock::time_point;

// Thread-safe. Durations and deadlines use now_steady(); only certificates, records and people see
// wall time.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual WallTime now() const = 0;
  virtual SteadyTime now_steady() const = 0;
};

// The machine's clocks; lives forever.
const Clock& system_clock();

// RFC 3339 in UTC with milliseconds: "2026-11-20T22:40:00.123Z".
std::string rfc3339(WallTime time);
// Inverse; throws Error{kUsage}.
WallTime parse_rfc3339(std::string_view text);

}  // namespace keyagent
