// SPDX-License-Identifier: Apache-2.0
#pragma once
// How SQLite would run a query: to see that it uses an index.

#include <string>
#include <vector>

#include "agent/store/engine/sql.h"

namespace keyagent::store {

// A line for each step.
inline std::vector<std::string> plan_of(Sql& sql, const std::string& query) {
  std::vector<std::string> steps;
  const auto rows = sql.all<std::string, std::string, std::string, std::string>(
      "EXPLAIN QUERY PLAN " + query);  // id, parent, unused, detail
  for (const auto& row : rows) steps.push_back(std::get<3>(row));
  return steps;
}

}  // namespace keyagent::store
