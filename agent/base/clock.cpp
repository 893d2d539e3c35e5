// SPDX-License-Identifier: Apache-2.0
#include "agent/base/clock.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/base/error.h"

namespace keyagent {

namespace {

class SystemClock : public Clock {
 public:
  WallTime now() const override { return std::chrono::system_clock::now(); }
  SteadyTime now_steady() const override { return std::chrono::steady_clock::now(); }
};

[[noreturn]] void refuse(std::string_view text) {
  throw Error(Code::kUsage,
              fmt::format("not a time: \"{}\"; expected like 2026-11-20T22:40:00.123Z (RFC 3339)",
                          text.substr(0, 40)));
}

// The number of `count` digits at `offset`; refuses anything but digits.
int digits(std::string_view text, std::size_t offset, std::size_t count) {
  int value = 0;
  for (std::size_t i = offset; i < offset + count; ++i) {
    if (text[i] < '0' || text[i] > '9') refuse(text);
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

}  // namespace

const Clock& system_clock() {
  static const SystemClock clock;
  return clock;
}

std::string rfc3339(WallTime time) {
  using namespace std::chrono;
  const auto in_ms = floor<milliseconds>(time);
  const auto day = floor<days>(in_ms);
  const year_month_day date{day};
  const hh_mm_ss clock{in_ms - day};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

WallTime parse_rfc3339(std::string_view text) {
  using namespace std::chrono;
  constexpr std::string_view kForm = "0000-00-00T00:00:00.000Z";
  if (text.size() != kForm.size()) refuse(text);
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    if (kForm[i] != '0' && text[i] != kForm[i]) refuse(text);
  }
  const year_month_day date{year{digits(text, 0, 4)},
                            month{static_cast<unsigned>(digits(text, 5, 2))},
                            day{static_cast<unsigned>(digits(text, 8, 2))}};
  const int hour = digits(text, 11, 2);
  const int minute = digits(text, 14, 2);
  const int second = digits(text, 17, 2);
  if (!date.ok() || hour > 23 || minute > 59 || second > 59) refuse(text);
  return sys_days{date} + hours{hour} + minutes{minute} + seconds{second} +
         milliseconds{digits(text, 20, 3)};
}

}  // namespace keyagent
