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

}  // namespace keyagent
