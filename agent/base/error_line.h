// SPDX-License-Identifier: Apache-2.0
#pragma once
// An error as one line for people.

#include <string>
#include <string_view>

namespace keyagent {

// "CODE: text". A text that begins with its code ("KEY_NOT_PRESENT kid=…") is not given it again.
inline std::string error_line(std::string_view code, const std::string& text) {
  const bool named = text.starts_with(code) && text.size() > code.size() &&
                     (text[code.size()] == ' ' || text[code.size()] == ':');
  return named || code.empty() ? text : std::string(code) + ": " + text;
}

}  // namespace keyagent
