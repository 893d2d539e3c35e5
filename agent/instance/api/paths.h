// SPDX-License-Identifier: Apache-2.0
#pragma once
// The paths of the requests in API.md. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keyagent::instance {

inline constexpr std::size_t kMaxPathId = 256;  // bytes; as of a string in a body

// What stands for each {} if the path has the pattern's shape: "/v1/agents/{}/approve". nullopt:
// another path. A {} is one segment, never empty and of at most kMaxPathId bytes: it is recorded.
std::optional<std::vector<std::string>> match_path(std::string_view pattern, std::string_view path);

// The text of the error for a path that no pattern matches; of a long path, its start.
std::string no_such_path(std::string_view method, std::string_view path);

}  // namespace keyagent::instance
