// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/limit_alarms.h"

#include <gmock/gmock.h>

namespace keyagent::daemon {
namespace {

using testing::HasSubstr;

LimitUsage usage_of(std::uint64_t used, const std::string& subject = "") {
  return {"limits.census-rows", subject, used, 100, "keyagent census forget", false};
}

class LimitAlarmsTest : public testing::Test {
 protected:
  std::size_t told(const std::vector<LimitUsage>& usage) {
    const auto before = events_.size();
    alarms_.check(usage);
    return events_.size() - before;
  }
  std::vector<keys::KeyEvent> events_;
  LimitAlarms alarms_{[this](const auto& each) { events_.push_back(each); }};
};

TEST_F(LimitAlarmsTest, Fault153_ALimitThatIsUsedToEightyPercentIsOneAlarmUntilItIsBelowSeventy) {
  EXPECT_EQ(told({usage_of(79)}), 0u);
  EXPECT_EQ(told({usage_of(80)}), 1u);
  EXPECT_EQ(events_.back().weight, keys::KeyEvent::Weight::kAlarm);
  EXPECT_THAT(events_.back().detail, HasSubstr("80 of at most 100"));
  EXPECT_EQ(told({usage_of(100)}), 0u);
  EXPECT_EQ(told({usage_of(75)}), 0u);
  EXPECT_EQ(told({usage_of(85)}), 0u) << "it was not below 70 %";
  EXPECT_EQ(told({usage_of(69)}), 0u);
  EXPECT_EQ(told({usage_of(85)}), 1u);
}

TEST_F(LimitAlarmsTest, Fault153_ManyUsersBeyondTheSameLimitRaiseOneAlarm) {
  EXPECT_EQ(told({usage_of(90, "uid 1"), usage_of(90, "uid 2")}), 1u);
  EXPECT_EQ(told({usage_of(10, "uid 1"), usage_of(90, "uid 2")}), 0u);
  EXPECT_EQ(told({usage_of(90, "uid 3")}), 0u);
  EXPECT_EQ(told({usage_of(10, "uid 3")}), 0u);
  EXPECT_EQ(told({usage_of(90, "uid 1")}), 1u);
}

TEST_F(LimitAlarmsTest, ARetentionIsAWarningAndDoctorOnlyMentionsIt) {
  LimitUsage usage = usage_of(95);
  usage.retention = true;
  EXPECT_EQ(told({usage}), 1u);
  EXPECT_EQ(events_.back().weight, keys::KeyEvent::Weight::kWarning);
  const auto findings = diagnose_limits({usage, usage_of(95), usage_of(10)});
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].severity(), "info");
  EXPECT_EQ(findings[1].severity(), "warning");
}

}  // namespace
}  // namespace keyagent::daemon
