// SPDX-License-Identifier: Apache-2.0
// Each kind of event has its own limit and retention.

#include <gtest/gtest.h>

#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

class Events : public BothTest {};
KEYAGENT_ON_BOTH(Events);

TEST_P(Events, Fault152_EachKindIsKeptToItsOwnCountAndAge) {
  if (IsSkipped()) return;
  const auto add = [&](const std::string& outcome, WallTime when) {
    auto event = sample_event();
    event.outcome = outcome;
    event.at = when;
    event.repeats = 7;
    store().add_event(event);
  };
  add("done", kNow - 48h);
  add("alarm", kNow - 48h);
  for (int i = 0; i < 10; ++i) add("refused", kNow), add("failed", kNow);
  for (int i = 0; i < 5; ++i) add("done", kNow);
  const auto last = store().last_event();
  EXPECT_EQ(store().count_events("refused"), 20);
  EXPECT_EQ(store().forget_events("refused", 6, kNow - 24h), 14) << "the oldest";
  EXPECT_EQ(store().forget_events("done", 100, kNow - 24h), 1) << "by age";
  EXPECT_EQ(store().forget_events("alarm", 100, kNow - 72h), 0) << "alarms are kept longer";
  EXPECT_EQ(store().count_events("refused"), 6);
  EXPECT_EQ(store().count_events("done"), 5);
  EXPECT_EQ(store().count_events("alarm"), 1);
  EXPECT_EQ(store().events(0, 100).at(0).outcome, "alarm");
  EXPECT_EQ(store().events(0, 100).at(0).repeats, 7);
  EXPECT_EQ(store().add_event(sample_event()), last + 1) << "numbering continues";
}

TEST_P(Events, Fault152_WhatEndedLongAgoIsForgotten) {
  if (IsSkipped()) return;
  store().add_certificate({"01", "a", "k", kNow - 9h, kNow - 2h, std::nullopt, "", {1}});
  store().add_certificate({"02", "a", "k", kNow - 9h, kNow + 2h, std::nullopt, "", {1}});
  auto ended = sample_rekey("a");
  ended.changed = kNow - 2h;
  ended.state = "failed";
  store().add_rekeys({ended}, "rekey-batch/batch-1", "{}");
  auto open = ended;
  open.batch = "batch-2";
  open.state = "sent";
  store().add_rekeys({open}, "rekey-batch/batch-2", "{}");
  store().forget_history(kNow - 1h);
  EXPECT_EQ(store().certificates("a").size(), 1u);
  EXPECT_TRUE(store().rekey_batch("batch-1").empty());
  EXPECT_FALSE(store().setting("rekey-batch/batch-1"));
  EXPECT_EQ(store().rekey_batch("batch-2").size(), 1u);
  EXPECT_TRUE(store().setting("rekey-batch/batch-2"));
}

}  // namespace
}  // namespace keyagent::store
