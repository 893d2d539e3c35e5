#pragma once
// The paths of the requests in API.md. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keyagent::instance {

// What stands for each {} if the path has the pattern's shape: "/v1/agents/{}/approve". nullopt:
// another path. A {} is one segment, never empty.
std::optional<std::vector<std::string>> match_path(std::string_view pattern, std::string_view path);

}  // namespace keyagent::instance
