// SPDX-License-Identifier: Apache-2.0
#include "agent/base/log.h"

#include <gmock/gmock.h>

#include <atomic>

#include "agent/base/error.h"
#include "agent/base/log_limiter.h"
#include "tests/support/fake_clock.h"

namespace keyagent {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string captured(LogLevel level, std::string_view text) {
  ::testing::internal::CaptureStderr();
  log(level, "gate", text);
  return ::testing::internal::GetCapturedStderr();
}

TEST(Log, Fault141_TextCannotForgeALine) {
  configure_log("info", "text");
  const auto line = captured(LogLevel::kWarning, "name \"x\"\n2026 error vault: \x1b[2Jforged");
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
  EXPECT_THAT(line, HasSubstr("warning gate: name \"x\"\\u000a2026"));
}

TEST(Log, Fault155_NoLineIsLongerThanFourKibibytes) {
  for (const char* format : {"text", "json"}) {
    configure_log("info", format);
    for (const std::string piece : {"x", "\x01", "é", "\"", "\xff"}) {
      std::string text;
      while (text.size() < (1U << 20U)) text += piece;
      const auto line = captured(LogLevel::kWarning, text);
      EXPECT_LE(line.size(), 4096u) << format << " " << piece;
      EXPECT_THAT(line, HasSubstr("bytes cut]"));
    }
    EXPECT_THAT(captured(LogLevel::kWarning, std::string(3000, 'x')),
                HasSubstr(std::string(3000, 'x')));
  }
  configure_log("info", "text");
}

TEST(Log, JsonLineIsOneObject) {
  configure_log("info", "json");
  EXPECT_THAT(captured(LogLevel::kError, "a \"quoted\" text"),
              MatchesRegex("\\{\"time\":\"[-0-9T:.]+Z\",\"level\":\"error\",\"component\":\"gate\","
                           "\"text\":\"a \\\\\"quoted\\\\\" text\"\\}\n"));
  configure_log("info", "text");
}

TEST(Log, LevelWithholdsWhatIsBelowIt) {
  configure_log("warning", "text");
  EXPECT_EQ(captured(LogLevel::kInfo, "quiet"), "");
  EXPECT_NE(captured(LogLevel::kWarning, "loud"), "");
  configure_log("info", "text");
  EXPECT_THROW(configure_log("verbose", "text"), Error);
  EXPECT_THROW(configure_log("info", "xml"), Error);
}

TEST(LogLimiter, R13_AThousandFaultsAreOneLineAMinute) {
  test::FakeClock clock;
  LogLimiter limiter(clock);
  int lines = 0;
  for (int i = 0; i < 1000; ++i) lines += limiter.admit("KEY_LOST k1").has_value() ? 1 : 0;
  EXPECT_EQ(lines, 1);
  EXPECT_TRUE(limiter.admit("KEY_LOST k2")) << "another key is another topic";
  clock.advance(std::chrono::minutes(1));
  EXPECT_EQ(limiter.admit("KEY_LOST k1"), 999U);
  EXPECT_EQ(limiter.admit("KEY_LOST k1"), std::nullopt);
}

TEST(LogLimiter, CallerCannotMakeItGrow) {
  test::FakeClock clock;
  LogLimiter limiter(clock);
  int lines = 0;
  for (int i = 0; i < 100000; ++i) lines += limiter.admit("topic " + std::to_string(i)).has_value();
  EXPECT_LE(lines, 1025);
  clock.advance(std::chrono::minutes(2));
  EXPECT_TRUE(limiter.admit("a new topic"));
}

}  // namespace
}  // namespace keyagent
