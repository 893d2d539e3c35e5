// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/refusals.h"

#include <gmock/gmock.h>

#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class RefusalsTest : public testing::Test {
 protected:
  audit::Options options() {
    audit::Options options;
    options.folder = folder_.path() / "audit";
    options.clock = &clock_;
    options.commit_interval = 1ms;
    return options;
  }
  // How it was answered.
  bool refuse(const std::string& caller, const std::string& what = "sign") {
    audit::Event event;
    event.what = "refused";
    event.who = caller;
    event.outcome = "DENIED";
    event.detail = "refused: " + what;
    event.key = std::string(128, 'k');
    bool flooding = false;
    refusals_->submit(caller, event, [&](bool over) { flooding = over; });
    return flooding;
  }
  void fire() {
    for (auto& task : std::exchange(tasks_, {})) task();
  }
  std::vector<std::string> lines() {
    audit::Event mark;
    mark.what = "mark";
    audit_.record_now(mark);
    auto lines = audit::tail(folder_.path() / "audit", 100000);
    lines.pop_back();
    return lines;
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  audit::AuditLog audit_{options()};
  std::vector<std::function<void()>> tasks_;
  std::shared_ptr<Refusals> refusals_ = std::make_shared<Refusals>(
      audit_, clock_,
      [this](SteadyTime, std::function<void()> task) { tasks_.push_back(std::move(task)); });
};

TEST_F(RefusalsTest, Fault148_AHundredThousandRefusalsTakeLessThanAMebibyte) {
  constexpr int kCount = 100000;
  int flooding = 0;
  for (int i = 0; i < kCount; ++i) {
    flooding += refuse("uid 1000", i % 2 == 0 ? "sign" : "open");
    if (i % 1000 == 0) clock_.advance(1s);
    if (i % 60000 == 59999) fire();
  }
  fire();
  EXPECT_GT(flooding, kCount * 9 / 10);
  const auto all = lines();
  EXPECT_LT(std::filesystem::file_size(folder_.path() / "audit/audit.log"), 1U << 20U);
  // Not one is uncounted.
  std::uint64_t counted = 0;
  for (const auto& line : all) {
    if (line.find("\"what\":\"refused.summary\"") == line.npos) {
      ++counted;
      continue;
    }
    EXPECT_THAT(line, HasSubstr("\"who\":\"uid 1000\""));
    EXPECT_THAT(line, HasSubstr(" more from 2026-01-01T00:0"));
    EXPECT_THAT(line, HasSubstr("sign DENIED "));
    EXPECT_THAT(line, HasSubstr("open DENIED "));
    counted += std::stoull(line.substr(line.find("\"detail\":\"") + 10));
  }
  EXPECT_EQ(counted, static_cast<std::uint64_t>(kCount));
}

TEST_F(RefusalsTest, Fault148_TheBudgetOfOneIsNotSpentByAnother) {
  for (int i = 0; i < 5000; ++i) refuse("uid 1000");
  EXPECT_FALSE(refuse("uid 1001"));
  EXPECT_THAT(lines().back(), HasSubstr("uid 1001"));
}

TEST_F(RefusalsTest, RefusalsWithinTheBudgetAreRecordedOneByOne) {
  for (std::uint32_t i = 0; i < RefusalLimits{}.burst; ++i) EXPECT_FALSE(refuse("uid 1000"));
  EXPECT_TRUE(refuse("uid 1000"));
  EXPECT_EQ(lines().size(), RefusalLimits{}.burst);
  clock_.advance(refusals_->refill());
  EXPECT_FALSE(refuse("uid 1000"));
}

TEST_F(RefusalsTest, Fault148_FailuresOfOtherKindsShareTheBudget) {
  audit::Event event;
  event.what = "open";
  event.who = "uid 1000";
  event.outcome = "INPUT";
  int flooding = 0;
  for (int i = 0; i < 1000; ++i) flooding += refusals_->note("uid 1000", event);
  EXPECT_EQ(flooding, 900);
  EXPECT_TRUE(refuse("uid 1000"));
  refusals_->flush();
  const auto last = lines().back();
  EXPECT_THAT(last, HasSubstr("901 more"));
  EXPECT_THAT(last, HasSubstr("open INPUT 900, sign DENIED 1"));
}

TEST_F(RefusalsTest, Fault153_TheSizesAreConfiguredAndTheLargestCallerIsReported) {
  refusals_->set_limits({.burst = 10, .per_minute = 60, .callers = 2});
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(refuse("uid 1000"));
  EXPECT_FALSE(refuse("uid 1001"));
  const auto usage = refusals_->usage();
  ASSERT_EQ(usage.size(), 2u);
  EXPECT_EQ(usage[1].limit, "limits.refusal-records");
  EXPECT_EQ(usage[1].subject, "uid 1000");
  EXPECT_EQ(usage[1].used, 8u);
  EXPECT_EQ(usage[1].max, 10u);
  EXPECT_TRUE(usage[1].high());
  EXPECT_FALSE(refuse("uid 1000"));
  EXPECT_FALSE(refuse("uid 1000"));
  EXPECT_TRUE(refuse("uid 1000"));
  clock_.advance(1s);
  EXPECT_FALSE(refuse("uid 1000")) << "one a second";
  refuse("uid 1000");
  EXPECT_EQ(refusals_->usage()[0].used, 1u) << "a caller that is only counted";
}

}  // namespace
}  // namespace keyagent::gate
