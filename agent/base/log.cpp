// SPDX-License-Identifier: Apache-2.0
#include "agent/base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent {

namespace {

struct LevelRow {
  LogLevel level;
  std::string_view name;
  spdlog::level::level_enum spdlog_level;
  int priority;  // syslog(3), for the journal
};

constexpr std::array kLevels{LevelRow{LogLevel::kDebug, "debug", spdlog::level::debug, 7},
                             LevelRow{LogLevel::kInfo, "info", spdlog::level::info, 6},
                             LevelRow{LogLevel::kWarning, "warning", spdlog::level::warn, 4},
                             LevelRow{LogLevel::kError, "error", spdlog::level::err, 3}};

enum class Format { kText, kJson };
Format g_format = Format::kText;  // set by configure_log before threads start

// The journal reads "<N>" at the start of a line as its priority and adds the time itself
// (sd-daemon(3)).
bool stderr_is_the_journal() {
  static const bool is_journal = [] {
    sockaddr_un peer{};
    socklen_t size = sizeof peer;
    return ::getpeername(STDERR_FILENO, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
           peer.sun_family == AF_UNIX &&
           std::string_view(peer.sun_path) == "/run/systemd/journal/stdout";
  }();
  return is_journal;
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("keyagent",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::info);
    return made;
  }();
  return *instance;
}

// Upper limit of a line in bytes, whatever the caller's text holds.
constexpr std::size_t kMaxLine = 4096, kMaxComponent = 64, kRoom = 160;

std::string json_line(const LevelRow& level, std::string_view component, std::string_view text) {
  std::string line = fmt::format(R"({{"time":"{}","level":"{}","component":)",
                                 rfc3339(system_clock().now()), level.name);
  append_json_string(line, component);
  line += ",\"text\":";
  append_json_string(line, text);
  return line + '}';
}

std::string text_line(const LevelRow& level, std::string_view component, std::string_view text) {
  if (stderr_is_the_journal()) {
    return fmt::format("<{}>{}: {}", level.priority, component, escape_controls(text));
  }
  return fmt::format("{} {} {}: {}", rfc3339(system_clock().now()), level.name, component,
                     escape_controls(text));
}

}  // namespace

void configure_log(std::string_view level, std::string_view format) {
  if (format != "text" && format != "json") {
    throw Error(Code::kConfiguration,
                fmt::format("log format \"{}\" is unknown: text or json", format));
  }
  for (const LevelRow& row : kLevels) {
    if (row.name != level) continue;
    g_format = format == "json" ? Format::kJson : Format::kText;
    logger().set_level(row.spdlog_level);
    return;
  }
  throw Error(Code::kConfiguration,
              fmt::format("log level \"{}\" is unknown: debug, info, warning or error", level));
}

void log(LogLevel level, std::string_view component, std::string_view text) {
  const LevelRow& row = kLevels.at(static_cast<std::size_t>(level));
  if (!logger().should_log(row.spdlog_level)) return;
  const std::string part = shorten_escaped(component, kMaxComponent);
  const std::string rest = shorten_escaped(text, kMaxLine - kMaxComponent - kRoom);
  const std::string line =
      g_format == Format::kJson ? json_line(row, part, rest) : text_line(row, part, rest);
  logger().log(row.spdlog_level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace keyagent
