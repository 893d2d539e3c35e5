// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/limits.h"

#include <algorithm>

#include "agent/base/error.h"

namespace keyagent::instance {
namespace {

struct Count {
  const char* name;
  std::int64_t Limits::*member;
  long least, most;
};
constexpr Count kCounts[] = {
    {"enrollments", &Limits::enrollments, 1, 1'000'000},
    {"pending", &Limits::pending, 1, 1'000'000},
    {"pending-per-address", &Limits::pending_per_address, 1, 1'000'000},
    {"certificates", &Limits::certificates, 2, 100'000},
    {"events-per-source", &Limits::events_per_source, 1, 1'000'000},
    {"events", &Limits::events, 1000, 1'000'000'000},
    {"refusals", &Limits::refusals, 1000, 1'000'000'000},
    {"alarms", &Limits::alarms, 1000, 1'000'000'000},
    {"agents", &Limits::agents, 1, 10'000'000},
    {"tokens", &Limits::tokens, 1, 10'000'000},
    {"handshakes", &Limits::handshakes, 1, 1'000'000},
    {"connections", &Limits::connections, 8, 1'000'000},
    {"connections-per-address", &Limits::connections_per_address, 4, 1'000'000}};

struct Time {
  const char* name;
  std::chrono::milliseconds Limits::*member;
};
constexpr Time kTimes[] = {{"pending-time", &Limits::pending_time},
                           {"event-time", &Limits::event_time},
                           {"alarm-time", &Limits::alarm_time}};

}  // namespace

Limits read_limits(const YamlReader& limits) {
  Limits out;
  for (const auto& [name, member, least, most] : kCounts)
    out.*member = limits.integer(name, static_cast<long>(out.*member), least, most);
  for (const auto& [name, member] : kTimes) {
    out.*member = limits.duration(name, out.*member);
    if (out.*member < std::chrono::hours(1))
      throw Error(Code::kConfiguration,
                  limits.where(name) + ": '" + name + "' is too short: it must be at least 1h");
  }
  return out;
}

RateBudget::Limits hourly(std::int64_t per_hour) {
  const std::chrono::milliseconds hour = std::chrono::hours(1);
  return {.burst = static_cast<std::uint32_t>(per_hour),
          .refill = std::max(hour / per_hour, std::chrono::milliseconds(1))};
}

}  // namespace keyagent::instance
