// SPDX-License-Identifier: Apache-2.0
// Each kind of event has its own limit and retention.

#include "agent/store/events.h"

#include <gtest/gtest.h>

#include "agent/store/certificates.h"
#include "agent/store/rekeys.h"
#include "agent/store/settings.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

class Events : public BothTest {};
KEYAGENT_ON_BOTH(Events);

TEST_P(Events, TheNewestAreReadInTheirOrder) {
  if (IsSkipped()) return;
  for (int i = 0; i < 5; ++i) {
    auto event = sample_event();
    event.text = std::to_string(i);
    store().events().add(event);
  }
  const auto newest = store().events().newest(2);
  ASSERT_EQ(newest.size(), 2u);
  EXPECT_EQ(newest[0].text + newest[1].text, "34");
  EXPECT_EQ(store().events().newest(100).size(), 5u);
}

TEST_P(Events, Fault152_EachKindIsKeptToItsOwnCountAndAge) {
  if (IsSkipped()) return;
  const auto add = [&](const std::string& outcome, WallTime when) {
    auto event = sample_event();
    event.outcome = outcome;
    event.at = when;
    event.repeats = 7;
    store().events().add(event);
  };
  add("done", kNow - 48h);
  add("alarm", kNow - 48h);
  for (int i = 0; i < 10; ++i) add("refused", kNow), add("failed", kNow);
  for (int i = 0; i < 5; ++i) add("done", kNow);
  const auto last = store().events().last_number();
  EXPECT_EQ(store().events().count("refused"), 20);
  EXPECT_EQ(store().events().forget("refused", 6, kNow - 24h), 14) << "the oldest";
  EXPECT_EQ(store().events().forget("done", 100, kNow - 24h), 1) << "by age";
  EXPECT_EQ(store().events().forget("alarm", 100, kNow - 72h), 0) << "alarms are kept longer";
  EXPECT_EQ(store().events().count("refused"), 6);
  EXPECT_EQ(store().events().count("done"), 5);
  EXPECT_EQ(store().events().count("alarm"), 1);
  EXPECT_EQ(store().events().list(0, 100).at(0).outcome, "alarm");
  EXPECT_EQ(store().events().list(0, 100).at(0).repeats, 7);
  EXPECT_EQ(store().events().add(sample_event()), last + 1) << "numbering continues";
}

TEST_P(Events, Fault152_WhatEndedLongAgoIsForgotten) {
  if (IsSkipped()) return;
  store().certificates().add({"01", "a", "k", kNow - 9h, kNow - 2h, std::nullopt, "", {1}});
  store().certificates().add({"02", "a", "k", kNow - 9h, kNow + 2h, std::nullopt, "", {1}});
  auto ended = sample_rekey("a");
  ended.changed = kNow - 2h;
  ended.state = "failed";
  store().rekeys().add_batch({ended}, "rekey-batch/batch-1", "{}");
  auto open = ended;
  open.batch = "batch-2";
  open.state = "sent";
  store().rekeys().add_batch({open}, "rekey-batch/batch-2", "{}");
  store().forget_history(kNow - 1h);
  EXPECT_EQ(store().certificates().list("a").size(), 1u);
  EXPECT_TRUE(store().rekeys().of_batch("batch-1").empty());
  EXPECT_FALSE(store().settings().get("rekey-batch/batch-1"));
  EXPECT_EQ(store().rekeys().of_batch("batch-2").size(), 1u);
  EXPECT_TRUE(store().settings().get("rekey-batch/batch-2"));
}

}  // namespace
}  // namespace keyagent::store
