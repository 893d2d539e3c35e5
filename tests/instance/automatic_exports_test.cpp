// SPDX-License-Identifier: Apache-2.0
// Rules for automatic approval: each stands alone, whatever is added beside it.

#include "agent/instance/exchange/automatic_exports.h"

#include <gtest/gtest.h>

#include "agent/base/error.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

const WallTime kToday = parse_rfc3339("2026-11-29T12:00:00.000Z");

AutomaticExport rule(const std::string& frequency, std::vector<std::string> specifications,
                     const std::string& by = "sam", const std::string& until = {}) {
  return {{frequency}, std::move(specifications), until, by};
}
bool covered(const AutomaticExports& rules, const std::string& frequency,
             const std::vector<std::string>& specifications, WallTime now = kToday) {
  return covering_rule(rules, frequency, specifications, now).has_value();
}

TEST(AutomaticExports, X6_WhatIsAddedWidensNoOtherRule) {
  AutomaticExports rules;
  add_rule(rules, rule("one-time-clone", {"pins"}), kToday);
  add_rule(rules, rule("recurring-clone", {"cards"}), kToday);
  add_rule(rules, rule("recurring-clone", {"pay"}, "kim"), kToday);
  EXPECT_EQ(rules.size(), 3u);
  EXPECT_TRUE(covered(rules, "one-time-clone", {"pins"}));
  EXPECT_FALSE(covered(rules, "one-time-clone", {"cards"}));
  EXPECT_FALSE(covered(rules, "recurring-clone", {"pins"}));
  EXPECT_FALSE(covered(rules, "recurring-clone", {"cards", "pay"})) << "of two users";
  EXPECT_FALSE(covered(rules, "recurring-clone", {})) << "all specifications";
  EXPECT_EQ(rules[*covering_rule(rules, "recurring-clone", {"pay"}, kToday)].by, "kim");
}

TEST(AutomaticExports, X6_ARuleOfTheSameUserAndKindGrowsAndIsNotRepeated) {
  AutomaticExports rules;
  add_rule(rules, rule("recurring-clone", {"cards"}), kToday);
  add_rule(rules, rule("recurring-clone", {"cards"}), kToday);
  add_rule(rules, rule("recurring-clone", {"pay"}), kToday);
  ASSERT_EQ(rules.size(), 1u);
  EXPECT_TRUE(covered(rules, "recurring-clone", {"cards", "pay"}));
  add_rule(rules, rule("recurring-clone", {}), kToday);
  ASSERT_EQ(rules.size(), 1u);
  EXPECT_TRUE(covered(rules, "recurring-clone", {}));
}

TEST(AutomaticExports, X6_AOneTimeRuleIsUsedUpAlone) {
  AutomaticExports rules;
  add_rule(rules, rule("one-time-clone", {"pins"}), kToday);
  add_rule(rules, rule("one-time-clone", {"cards"}), kToday);
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_FALSE(covered(rules, "one-time-clone", {"cards", "pins"}));
  use_up(rules, *covering_rule(rules, "one-time-clone", {"cards"}, kToday), "one-time-clone");
  EXPECT_FALSE(covered(rules, "one-time-clone", {"cards"}));
  EXPECT_TRUE(covered(rules, "one-time-clone", {"pins"}));
}

TEST(AutomaticExports, X6_ARuleEndsAndGoesWhenTheNextIsAdded) {
  AutomaticExports rules;
  add_rule(rules, rule("recurring-clone", {"cards"}, "sam", "2026-11-30T00:00:00.000Z"), kToday);
  EXPECT_TRUE(covered(rules, "recurring-clone", {"cards"}));
  EXPECT_FALSE(covered(rules, "recurring-clone", {"cards"}, kToday + 12h));
  add_rule(rules, rule("recurring-clone", {"pay"}), kToday + 12h);
  EXPECT_EQ(rules.size(), 1u);
}

TEST(AutomaticExports, X6_TheStoredFormIsThatOfEarlierVersionsWithTheOthersBesideIt) {
  const std::string stored =
      R"({"frequencies":["recurring-clone"],"specifications":["cards"],"until":"","by":"sam"})";
  auto rules = parse_automatic(stored);
  EXPECT_EQ(serialize(rules), stored);
  add_rule(rules, rule("one-time-clone", {}, "kim"), kToday);
  const auto again = parse_automatic(serialize(rules));
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[1].by, "kim");
  EXPECT_EQ(parse_object(serialize(rules)).at("specifications"), Json::array({"cards"}));
  EXPECT_TRUE(parse_automatic("").empty());
  EXPECT_EQ(serialize({}), "");
}

TEST(AutomaticExports, X6_TheirNumberIsLimited) {
  AutomaticExports rules;
  for (int i = 0; i < 64; ++i)
    add_rule(rules, rule("one-time-clone", {"s" + std::to_string(i)}), kToday);
  EXPECT_THROW(add_rule(rules, rule("one-time-clone", {"more"}), kToday), Error);
  EXPECT_EQ(rules.size(), 64u);
}

}  // namespace
}  // namespace keyagent::instance
