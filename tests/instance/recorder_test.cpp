// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/recorder.h"

#include <gtest/gtest.h>

#include "agent/instance/api/usage.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

class RecorderTest : public testing::Test {
 protected:
  int rows(const std::string& actor) {
    int count = 0;
    for (const auto& each : store_.events().list(0, 100'000))
      count += each.actor.starts_with(actor) ? 1 : 0;
    return count;
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  store::Store store_{{"sqlite://" + (folder_.path() / "i.db").string()}};
  Recorder recorder_{store_, clock_, 5};
};

TEST_F(RecorderTest, Fault152_AFloodFromOneAddressBecomesOneCountedRow) {
  for (int i = 0; i < 500; ++i)
    recorder_.record(Outcome::kAlarm, "192.0.2.1:" + std::to_string(1000 + i), "enrol",
                     "id-" + std::to_string(i), "flood");
  EXPECT_EQ(rows("192.0.2.1"), 5);
  recorder_.record(Outcome::kAlarm, "198.51.100.7:1", "enrol", "db1", "of somebody else");
  EXPECT_EQ(rows("198.51.100.7"), 1);
  for (int i = 0; i < 100; ++i) recorder_.record(Outcome::kDone, "user ada", "backup", "x");
  EXPECT_EQ(rows("user ada"), 100) << "what was done is never withheld";
  recorder_.summarize();
  const auto last = store_.events().list(0, 100'000).back();
  EXPECT_EQ(last.actor, "192.0.2.1");
  EXPECT_EQ(last.action, "enrol");
  EXPECT_EQ(last.outcome, "alarm");
  EXPECT_EQ(last.repeats, 495);
  recorder_.summarize();
  EXPECT_EQ(rows("192.0.2.1"), 6) << "nothing new, no row";
}

TEST_F(RecorderTest, Fault152_ManyAddressesHaveABudgetInAll) {
  for (int i = 0; i < 2000; ++i)
    recorder_.record(Outcome::kAlarm, "[2001:db8:0:" + std::to_string(i) + "::1]:1", "enrol", "x");
  EXPECT_LE(rows("["), 50);
  recorder_.summarize();
  EXPECT_LE(rows(""), 50 + 33);
  std::int64_t counted = 0;
  for (const auto& each : store_.events().list(0, 100'000)) counted += each.repeats;
  EXPECT_EQ(counted, 2000) << "each is counted once";
}

TEST_F(RecorderTest, Fault152_ALimitThatIsUsedTo80PercentIsAnAlarmOnce) {
  Limits limits;
  limits.tokens = 10;
  Usage usage(limits, store_, recorder_, clock_);
  const auto add = [&](std::uint8_t n) {
    store::EnrollmentToken token;
    token.hash = {n};
    token.expires = clock_.now() + std::chrono::hours(1);
    store_.enrollments().add_token(token);
  };
  for (std::uint8_t i = 0; i < 7; ++i) add(i);
  usage.check();
  EXPECT_EQ(rows("instance"), 0);
  add(7);
  usage.check();
  usage.check();
  EXPECT_EQ(rows("instance"), 1);
  EXPECT_EQ(store_.events().list(0, 10).back().subject, "tokens");
  EXPECT_EQ(store_.events().list(0, 10).back().outcome, "alarm");
  limits.alarms = 1000;
}

}  // namespace
}  // namespace keyagent::instance
