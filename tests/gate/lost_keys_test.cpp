// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/lost_keys.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace keyagent::gate {
namespace {

bool may_try(LostKeys& keys, const std::string& kid) {
  try {
    keys.require_not_lost(kid);
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
  keys.lost("a", Error(Code::kKeyLost, "gone", "a"));
  EXPECT_FALSE(may_try(keys, "a"));
  EXPECT_TRUE(may_try(keys, "b"));
  EXPECT_EQ(keys.all(), (std::map<std::string, std::string>{{"a", "gone"}}));
  clock.advance(LostKeys::kPause);
  EXPECT_TRUE(may_try(keys, "a"));
  EXPECT_FALSE(may_try(keys, "a")) << "one at a time";
  keys.found("a");
  EXPECT_TRUE(may_try(keys, "a"));
  EXPECT_TRUE(keys.all().empty());
}

}  // namespace
}  // namespace keyagent::gate
