// SPDX-License-Identifier: Apache-2.0
#pragma once
// A request with what it is about, and the table rows that lead to its answer. Internal to the
// api_*.cpp files.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/instance/api/api.h"

namespace keyagent::instance {

// A text of JSON, or PEM.
struct Answer {
  std::string body;
  std::string type = "application/json";
};
Answer json_answer(const Json& object);

struct PeopleAsk {
  const Services& parts;
  const tls::HttpRequest& request;
  std::vector<std::string> ids;  // what stood for {} in the pattern
  AuthenticatedUser person;      // empty on open routes
  Json body;                     // an empty object without one

  std::string query(const std::string& name) const;
  std::int64_t number(const char* name, std::int64_t otherwise) const;  // of the query
};
struct PeopleRoute {
  const char* method;
  const char* pattern;
  std::optional<Right> right;  // nullopt: no authentication required
  Answer (*run)(const PeopleAsk& ask);
};

struct AgentAsk {
  const Services& parts;
  const tls::HttpRequest& request;
  std::vector<std::string> ids;
  store::Agent agent;
  Json body;
};
struct AgentRoute {
  const char* method;
  const char* pattern;
  Json (*run)(const AgentAsk& ask);
};

// All of `listen.api`, in the order in which they are checked.
std::vector<std::span<const PeopleRoute>> all_routes_of_people();

// api_decisions.cpp
std::span<const PeopleRoute> decision_routes_of_people();

// api_records.cpp
std::span<const PeopleRoute> record_routes_of_people();

// api_exchange.cpp
std::span<const PeopleRoute> exchange_routes_of_people();

// api_tasks.cpp
std::span<const PeopleRoute> task_routes_of_people();
std::span<const AgentRoute> task_routes_of_agents();

}  // namespace keyagent::instance
