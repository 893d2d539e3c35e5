// SPDX-License-Identifier: Apache-2.0
// README.md, "Rights", is the table that the instance obeys: each route has its row, each role its
// place.

#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "agent/instance/api/api_routes.h"

namespace keyagent::instance {
namespace {

// "POST /v1/tokens" → "yes", "yes", "-", "-"; for kAllRoles.
std::map<std::string, std::vector<std::string>> documented() {
  std::ifstream file(KEYAGENT_SOURCE "/agent/instance/README.md");
  const std::regex row(
      "\\| `((?:GET|PUT|POST|DELETE) /[^`]*)` \\| (\\S+) \\| (\\S+) \\| (\\S+) \\| "
      "(\\S+) \\|.*");
  std::map<std::string, std::vector<std::string>> out;
  for (std::string line; std::getline(file, line);) {
    std::smatch found;
    if (!std::regex_match(line, found, row)) continue;
    out[found[1]] = {found[2], found[3], found[4], found[5]};
  }
  return out;
}

TEST(Rights, Fault159_EachRouteHasItsRowAndNoRoleHasMoreThanItSays) {
  auto rows = documented();
  for (const auto routes : all_routes_of_people()) {
    for (const auto& route : routes) {
      const auto name = std::string(route.method) + " " + route.pattern;
      const auto row = rows.find(name);
      if (row == rows.end()) {
        ADD_FAILURE() << name << " is not in README.md, Rights: add the roles that may do it";
        continue;
      }
      for (std::size_t i = 0; i < std::size(kAllRoles); ++i) {
        const bool may = !route.right || has(kAllRoles[i], *route.right);
        const auto wanted = !route.right ? "open" : may ? "yes" : "-";
        EXPECT_EQ(row->second[i], wanted) << name << " of " << name_of(kAllRoles[i]);
      }
      rows.erase(row);
    }
  }
  for (const auto& [name, row] : rows) ADD_FAILURE() << name << " is not a route";
}

}  // namespace
}  // namespace keyagent::instance
