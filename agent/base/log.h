// SPDX-License-Identifier: Apache-2.0
#pragma once
// The operator's log: one line per event, to standard error or the journal, through spdlog (hidden
// behind this header to keep it out of the other rooms' builds). Texts hold names, kids, paths and
// codes; no overload takes secret bytes.

#include <string_view>

namespace keyagent {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Sets level and format ("text" or "json") for the process. Call once, before threads. Throws
// Error{kConfiguration}.
void configure_log(std::string_view level, std::string_view format);

// Control bytes in `text` are escaped (RELIABILITY 141), and a line holds at most 4 KiB: a longer
// text is cut and marked as cut (RELIABILITY 155). Thread-safe. `component` is a room's name:
// "vault", "gate".
void log(LogLevel level, std::string_view component, std::string_view text);

inline void log_info(std::string_view c, std::string_view t) {
  log(LogLevel::kInfo, c, t);
}
inline void log_warning(std::string_view c, std::string_view t) {
  log(LogLevel::kWarning, c, t);
}
inline void log_error(std::string_view c, std::string_view t) {
  log(LogLevel::kError, c, t);
}

}  // namespace keyagent
