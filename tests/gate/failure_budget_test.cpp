#include "agent/gate/failure_budget.h"

#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;

TEST(FailureBudget, Fault107_SpentOnceAndUntilReset) {
  test::FakeClock clock;
  FailureBudget budget(clock, 3);
  EXPECT_FALSE(budget.count_failure("kid"));
  EXPECT_FALSE(budget.count_failure("kid"));
  EXPECT_FALSE(budget.spent("kid"));
  EXPECT_TRUE(budget.count_failure("kid")) << "the alarm";
  EXPECT_FALSE(budget.count_failure("kid")) << "one alarm only";
  EXPECT_TRUE(budget.spent("kid"));
  EXPECT_FALSE(budget.spent("other"));
  clock.advance(48h);
  budget.count_failure("kid");
  EXPECT_TRUE(budget.spent("kid")) << "no new day without an operator";
  budget.reset(5);
  EXPECT_FALSE(budget.spent("kid"));
  EXPECT_EQ(budget.most(), 5u);
}

TEST(FailureBudget, CountStartsAnewEachDay) {
  test::FakeClock clock;
  FailureBudget budget(clock, 3);
  budget.count_failure("kid");
  budget.count_failure("kid");
  clock.advance(25h);
  EXPECT_FALSE(budget.count_failure("kid"));
  EXPECT_FALSE(budget.spent("kid"));
}

}  // namespace
}  // namespace keyagent::gate
