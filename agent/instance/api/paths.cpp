// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/api/paths.h"

namespace keyagent::instance {

std::optional<std::vector<std::string>> match_path(std::string_view pattern,
                                                   std::string_view path) {
  std::vector<std::string> ids;
  while (!pattern.empty()) {
    if (pattern.starts_with("{}")) {
      const auto end = path.find('/');
      const auto id = path.substr(0, end);
      if (id.empty() || id.size() > kMaxPathId) return std::nullopt;
      ids.emplace_back(id);
      path.remove_prefix(id.size());
      pattern.remove_prefix(2);
    } else if (!path.empty() && path.front() == pattern.front()) {
      path.remove_prefix(1);
      pattern.remove_prefix(1);
    } else {
      return std::nullopt;
    }
  }
  if (!path.empty()) return std::nullopt;
  return ids;
}

std::string no_such_path(std::string_view method, std::string_view path) {
  std::string text = "there is no " + std::string(method) + " ";
  if (path.size() <= kMaxPathId) return text.append(path);
  auto end = kMaxPathId;  // not within a character
  while (end > 0 && (static_cast<unsigned char>(path[end]) & 0xc0) == 0x80) --end;
  return text.append(path.substr(0, end)) + "...: each part of a path has at most " +
         std::to_string(kMaxPathId) + " bytes";
}

}  // namespace keyagent::instance
