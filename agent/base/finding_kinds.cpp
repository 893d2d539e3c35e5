// SPDX-License-Identifier: Apache-2.0
#include "agent/base/finding_kinds.h"

#include <algorithm>

namespace keyagent {
namespace {

constexpr std::string_view kPlain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

std::string shell_word(const std::string& value) {
  if (!value.empty() && value.find_first_not_of(kPlain) == value.npos) return value;
  std::string quoted = "'";
  for (const char each : value) quoted += each == '\'' ? "'\\''" : std::string(1, each);
  return quoted + "'";
}

}  // namespace

Fix fix_of(const FindingKind& kind, FixValues values) {
  Fix fix;
  bool in_command = false;
  const std::string_view text = kind.fix;
  const auto add = [&](const std::string& part) {
    fix.text += part;
    if (in_command) fix.commands.back() += part;
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '`') {
      in_command = !in_command;
      if (in_command) fix.commands.emplace_back();
      continue;
    }
    const auto end = text[at] == '{' ? text.find('}', at) : text.npos;
    const auto name = end == text.npos ? std::string_view() : text.substr(at + 1, end - at - 1);
    const auto* value = std::find_if(values.begin(), values.end(),
                                     [&](const auto& each) { return each.first == name; });
    if (end == text.npos || value == values.end()) {
      add(std::string(1, text[at]));
      continue;
    }
    const bool argument = in_command && at > 0 && text[at - 1] == ' ';
    // A kid may begin with '-', which would make it an option.
    const bool dashed = argument && value->second.starts_with('-') && value->first != "link";
    add((dashed ? "-- " : "") +
        (in_command && value->first != "link" ? shell_word(value->second) : value->second));
    at = end;
  }
  return fix;
}

}  // namespace keyagent
