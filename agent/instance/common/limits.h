// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bounds of what grows with what others do: `limits` in keyinstanced.yml.

#include <chrono>
#include <cstdint>

#include "agent/base/rate_budget.h"
#include "agent/base/yaml_reader.h"

namespace keyagent::instance {

struct Limits {
  // Per address (an IPv4 address, an IPv6 /64) and hour: enrollments without a valid token, wrong
  // answers, polls of what does not exist.
  std::int64_t enrollments = 60;
  std::int64_t pending = 1000, pending_per_address = 10;  // agents that wait for a person
  std::chrono::milliseconds pending_time{std::chrono::hours(24 * 7)};
  std::int64_t certificates = 100;  // issued to one agent in 24 h
  // Refusals, failures and alarms that one address, agent or user causes and that are recorded one
  // by one, per hour; the others are counted in a summary.
  std::int64_t events_per_source = 60;
  // Retention by number and by age; the oldest of each kind are deleted first.
  std::int64_t events = 1'000'000, refusals = 100'000, alarms = 100'000;
  std::chrono::milliseconds event_time{std::chrono::hours(24 * 400)};
  std::chrono::milliseconds alarm_time{std::chrono::hours(24 * 1100)};
  std::int64_t agents = 20'000, tokens = 10'000;
  std::int64_t handshakes = 600;  // failed ones, per address and hour
  // Open at each listener: all, and those of one address but for its agents' links.
  std::int64_t connections = 20'000, connections_per_address = 1000;
};

// Throws Error{kConfiguration}.
Limits read_limits(const YamlReader& limits);

// `per_hour` at once, and again over an hour.
RateBudget::Limits hourly(std::int64_t per_hour);

}  // namespace keyagent::instance
