// SPDX-License-Identifier: Apache-2.0
#pragma once
// Values in commands that are printed for a person to run.

#include <string>
#include <string_view>

namespace keyagent {

// A kid is base64url and may begin with '-', which would make it an option. For the last positional
// argument of a printed command; an option with a value is printed as --option=VALUE.
inline std::string as_argument(std::string_view value) {
  return (value.starts_with('-') ? "-- " : "") + std::string(value);
}

// One word of a POSIX shell, quoted where it needs it.
inline std::string shell_word(std::string_view value) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
  if (!value.empty() && value.find_first_not_of(kPlain) == value.npos) return std::string(value);
  std::string quoted = "'";
  for (const char c : value) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace keyagent
