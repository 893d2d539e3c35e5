// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/failure_budget.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using Effect = FailureBudget::Effect;

TEST(FailureBudget, Fault150_OnlyOneCallerIsPausedAndOnlyForOneKey) {
  test::FakeClock clock;
  FailureBudget budget(clock, 3);
  EXPECT_EQ(budget.count_failure("uid 1", "kid"), Effect::kNone);
  EXPECT_EQ(budget.count_failure("uid 1", "kid"), Effect::kNone);
  EXPECT_FALSE(budget.paused_until("uid 1", "kid"));
  EXPECT_EQ(budget.count_failure("uid 1", "kid"), Effect::kPaused) << "the alarm";
  EXPECT_EQ(budget.count_failure("uid 1", "kid"), Effect::kNone) << "one alarm only";
  EXPECT_TRUE(budget.paused_until("uid 1", "kid"));
  EXPECT_FALSE(budget.paused_until("uid 1", "other"));
  EXPECT_FALSE(budget.paused_until("uid 2", "kid"));
  ASSERT_EQ(budget.pauses().size(), 1u);
  EXPECT_EQ(budget.pauses()[0].caller, "uid 1");
}

TEST(FailureBudget, Fault150_APauseEndsWithItsDayAndWithAReset) {
  test::FakeClock clock;
  FailureBudget budget(clock, 2);
  budget.count_failure("uid 1", "kid");
  clock.advance(1h);
  budget.count_failure("uid 1", "kid");
  EXPECT_EQ(budget.paused_until("uid 1", "kid"), clock.now_steady() + 23h);
  clock.advance(23h - 1ms);
  EXPECT_TRUE(budget.paused_until("uid 1", "kid"));
  clock.advance(1ms);
  EXPECT_FALSE(budget.paused_until("uid 1", "kid"));
  EXPECT_EQ(budget.count_failure("uid 1", "kid"), Effect::kNone) << "a new day starts a new count";
  budget.count_failure("uid 1", "kid");
  budget.reset(5);
  EXPECT_FALSE(budget.paused_until("uid 1", "kid"));
  EXPECT_EQ(budget.max(), 5u);
}

TEST(FailureBudget, Fault150_OneCallerAloneNeverStrainsAKey) {
  test::FakeClock clock;
  FailureBudget budget(clock, 128);
  for (int i = 0; i < 128 * 20; ++i) budget.count_failure("uid 1", "kid");
  EXPECT_TRUE(budget.strained().empty());
  EXPECT_FALSE(budget.paused_until("uid 2", "kid"));
}

TEST(FailureBudget, Fault150_AStrainedKeyPausesSoonerButNeverWhoHasNoFailure) {
  test::FakeClock clock;
  FailureBudget budget(clock, 128);
  int strained = 0;
  for (int caller = 0; caller < 8; ++caller) {
    for (int i = 0; i < 128; ++i) {
      strained += budget.count_failure("uid " + std::to_string(caller), "kid") == Effect::kStrained;
    }
  }
  EXPECT_EQ(strained, 1);
  EXPECT_EQ(budget.strained().size(), 1u);
  EXPECT_FALSE(budget.paused_until("owner", "kid"));
  budget.count_failure("owner", "kid");
  EXPECT_FALSE(budget.paused_until("owner", "kid"));
  EXPECT_EQ(budget.count_failure("owner", "kid"), Effect::kPaused) << "128 / 64";
  EXPECT_TRUE(budget.paused_until("owner", "kid"));
  clock.advance(24h);
  EXPECT_TRUE(budget.strained().empty());
  EXPECT_FALSE(budget.paused_until("owner", "kid"));
}

TEST(FailureBudget, Fault150_ManyCallersDoNotMakeItForgetWhoIsPaused) {
  test::FakeClock clock;
  FailureBudget budget(clock, 2);
  budget.count_failure("uid 1", "kid");
  budget.count_failure("uid 1", "kid");
  for (int i = 0; i < 10000; ++i) budget.count_failure("item " + std::to_string(i), "kid");
  EXPECT_TRUE(budget.paused_until("uid 1", "kid"));
}

}  // namespace
}  // namespace keyagent::gate
