// SPDX-License-Identifier: Apache-2.0
#include "agent/link/renewal.h"

#include "agent/base/encoding.h"

namespace keyagent::link {

WallTime renew_at(const Leaf& leaf, const std::string& kid) {
  const auto life = leaf.not_after - leaf.not_before;
  const Bytes draw = sha256(as_bytes(kid));
  const auto earlier = life / 20 / 256 * draw.front();
  return leaf.not_before + life / 3 * 2 - earlier;
}

std::optional<int> days_left(const Leaf& leaf, WallTime now) {
  for (const int days : {0, 1, 7, 14, 30}) {
    if (leaf.not_after - now <= std::chrono::hours(24 * days)) return days;
  }
  return std::nullopt;
}

}  // namespace keyagent::link
