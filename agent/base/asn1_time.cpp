// SPDX-License-Identifier: Apache-2.0
#include "agent/base/asn1_time.h"

#include <algorithm>
#include <array>
#include <ctime>

namespace keyagent {
namespace {

std::optional<std::tm> parts_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return parts;
}

}  // namespace

std::optional<WallTime> wall_time(const ASN1_TIME* time) {
  constexpr std::int64_t kFirst = -31'536'000, kLast = 9'183'110'400;
  auto parts = parts_of(time);
  if (!parts) return std::nullopt;
  const std::int64_t seconds = std::clamp<std::int64_t>(::timegm(&*parts), kFirst, kLast);
  return WallTime(std::chrono::seconds(seconds));
}

std::string time_text(const ASN1_TIME* time) {
  const auto parts = parts_of(time);
  if (!parts) return {};
  std::array<char, 40> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S.000Z", &*parts);
  return text.data();
}

}  // namespace keyagent
