// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/lost_keys.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace keyagent::gate {
namespace {

bool may_try(LostKeys& keys, const std::string& kid, std::uint64_t reconciliations = 7) {
  try {
    keys.require_not_lost(kid, reconciliations);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kKeyLost);
    EXPECT_EQ(error.kid(), kid);
    return false;
  }
}

TEST(LostKeys, R13_OneTryAPauseUntilTheKeyIsBack) {
  test::FakeClock clock;
  LostKeys keys(clock);
  EXPECT_TRUE(may_try(keys, "a"));
  keys.lost("a", Error(Code::kKeyLost, "gone", "a"), 7);
  EXPECT_FALSE(may_try(keys, "a"));
  EXPECT_TRUE(may_try(keys, "b"));
  EXPECT_EQ(keys.all(7), (std::map<std::string, std::string>{{"a", "gone"}}));
  EXPECT_TRUE(may_try(keys, "a", 8));
  EXPECT_TRUE(keys.all(8).empty()) << "compared since: the comparison reports it, or found it";
  clock.advance(LostKeys::kPause);
  EXPECT_TRUE(may_try(keys, "a"));
  EXPECT_FALSE(may_try(keys, "a")) << "one at a time";
  keys.found("a");
  EXPECT_TRUE(may_try(keys, "a"));
  EXPECT_TRUE(keys.all(7).empty());
}

}  // namespace
}  // namespace keyagent::gate
