// SPDX-License-Identifier: Apache-2.0
#include "agent/base/rate_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/base/address_principal.h"
#include "tests/support/fake_clock.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;

TEST(RateBudget, Fault149_AFlooderUsesUpItsOwnTokensOnly) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 5, .refill = 1s});
  int allowed = 0;
  for (int i = 0; i < 1000; ++i) allowed += budget.take("flooder") ? 1 : 0;
  EXPECT_EQ(allowed, 5);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(budget.take("owner"));
  const auto refused = budget.take("flooder");
  EXPECT_EQ(refused.refused, 996U);
  EXPECT_EQ(refused.retry_after, 1s);
  clock.advance(999ms);
  EXPECT_FALSE(budget.take("flooder"));
  clock.advance(1ms);
  EXPECT_TRUE(budget.take("flooder"));
  EXPECT_FALSE(budget.take("flooder"));
  clock.advance(1h);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(budget.take("flooder"));
  EXPECT_FALSE(budget.take("flooder")) << "no more than a burst is saved up";
}

TEST(RateBudget, Fault148_RefusalsAreCountedForASummary) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 1, .refill = 1s});
  EXPECT_TRUE(budget.take("a"));
  EXPECT_EQ(budget.take("a").refused, 1U) << "the first is the one to record";
  EXPECT_EQ(budget.take("a").refused, 2U);
  clock.advance(1s);
  EXPECT_TRUE(budget.take("a"));
  EXPECT_EQ(budget.take("a").refused, 3U) << "a token in between begins no new series";
  const auto refusals = budget.take_refusals();
  ASSERT_EQ(refusals.size(), 1U);
  EXPECT_EQ(refusals[0].principal, "a");
  EXPECT_EQ(refusals[0].count, 3U);
  EXPECT_TRUE(budget.take_refusals().empty());
  EXPECT_EQ(budget.take("a").refused, 1U);
}

TEST(RateBudget, Fault149_AFlooderIsNotForgottenForNewcomers) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 2, .refill = 1s, .max_principals = 10});
  EXPECT_TRUE(budget.take("flooder", 2));
  EXPECT_FALSE(budget.take("flooder"));
  int allowed = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget.take("made up " + std::to_string(i));
    allowed += budget.take("flooder") ? 1 : 0;
  }
  EXPECT_EQ(allowed, 0);
  EXPECT_EQ(budget.principals(), 10U);
}

TEST(RateBudget, Fault149_NewcomersShareOneBucketWhenAllOthersAreExhausted) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 2, .refill = 1s, .max_principals = 3});
  for (const char* each : {"a", "b", "c"}) EXPECT_TRUE(budget.take(each, 2));
  EXPECT_TRUE(budget.has("d"));
  EXPECT_TRUE(budget.take("d"));
  EXPECT_TRUE(budget.take("e"));
  EXPECT_FALSE(budget.has("f"));
  EXPECT_FALSE(budget.take("f"));
  EXPECT_EQ(budget.take_refusals().at(0).principal, "(others)");
  EXPECT_EQ(budget.principals(), 3U);
  clock.advance(2s);
  EXPECT_TRUE(budget.take("f")) << "those that are full again make room";
  EXPECT_EQ(budget.principals(), 3U);
}

TEST(RateBudget, WorkCanBeChargedWhenItFailsOnly) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 2, .refill = 1s});
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(budget.has("a"));
  EXPECT_TRUE(budget.take_refusals().empty());
  for (int i = 0; i < 100; ++i) budget.charge("a");
  EXPECT_FALSE(budget.has("a"));
  clock.advance(2s);
  EXPECT_FALSE(budget.has("a")) << "a debt, of one burst at most";
  clock.advance(1s);
  EXPECT_TRUE(budget.has("a"));
  EXPECT_TRUE(budget.take("a"));
  budget.refund("a");
  EXPECT_TRUE(budget.take("a"));
  EXPECT_FALSE(budget.take("a"));
}

TEST(RateBudget, ThreadsTakeEachTokenOnce) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 1000, .refill = 1s});
  std::atomic<int> allowed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) allowed += budget.take("a") ? 1 : 0;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allowed, 1000);
}

TEST(RateBudget, Fault152_AnAddressIsOneIPv4OrOneIPv6Slash64) {
  EXPECT_EQ(principal_of_address("192.0.2.1:4711"), "192.0.2.1");
  EXPECT_EQ(principal_of_address("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(principal_of_address("[::ffff:192.0.2.1]:4711"), "192.0.2.1");
  EXPECT_EQ(principal_of_address("[2001:db8:1:2:3:4:5:6]:4711"), "2001:db8:1:2::/64");
  EXPECT_EQ(principal_of_address("2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64");
  EXPECT_EQ(principal_of_address("fe80::1%eth0"), "fe80::/64");
  EXPECT_EQ(principal_of_address("[::1]:1"), "::/64");
  EXPECT_EQ(principal_of_address("uid 1000"), "uid 1000");
  EXPECT_EQ(principal_of_address(""), "");
}

TEST(RateBudget, Fault149_NewLimitsKeepWhatWasSpent) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 10, .refill = 1s, .max_principals = 8});
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(budget.take("a"));
  budget.set_limits({.burst = 5, .refill = 10s, .max_principals = 8});
  EXPECT_FALSE(budget.take("a")) << "eight are spent of five";
  clock.advance(40s);
  EXPECT_TRUE(budget.take("a"));
  EXPECT_FALSE(budget.take("a"));
  for (const char* other : {"b", "c", "d"}) EXPECT_TRUE(budget.take(other));
  budget.set_limits({.burst = 5, .refill = 10s, .max_principals = 2});
  EXPECT_EQ(budget.principals(), 2U);
  EXPECT_FALSE(budget.take("a")) << "the flooder is not the one that is forgotten";
}

TEST(RateBudget, Fault149_NewLimitsKeepWhatNewcomersSpentTogether) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 2, .refill = 1s, .max_principals = 1});
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(budget.take("a"));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(budget.take("newcomer"));
  budget.set_limits({.burst = 2, .refill = 1h, .max_principals = 1});
  clock.advance(10s);
  EXPECT_FALSE(budget.take("another")) << "both are still missing, at the new pace";
}

TEST(RateBudget, Fault153_TheLargestSpenderIsKnown) {
  FakeClock clock;
  RateBudget budget(clock, {.burst = 10, .refill = 1s});
  EXPECT_FALSE(budget.largest_spender());
  budget.take("a");
  for (int i = 0; i < 8; ++i) budget.take("b");
  ASSERT_TRUE(budget.largest_spender());
  EXPECT_EQ(budget.largest_spender()->principal, "b");
  EXPECT_EQ(budget.largest_spender()->spent, 8U);
  clock.advance(3500ms);
  EXPECT_EQ(budget.largest_spender()->spent, 5U);
  budget.charge("b", 100);
  EXPECT_EQ(budget.largest_spender()->spent, 10U) << "a debt counts as the whole";
  clock.advance(1h);
  EXPECT_FALSE(budget.largest_spender());
}

}  // namespace
}  // namespace keyagent::test
