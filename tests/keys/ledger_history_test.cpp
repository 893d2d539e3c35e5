// SPDX-License-Identifier: Apache-2.0
// What the ledger keeps of the past, and what it forgets first.

#include <gtest/gtest.h>

#include <algorithm>

#include "agent/base/clock.h"
#include "agent/base/encoding.h"
#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"
#include "tests/support/temp_folder.h"

namespace keyagent::keys {
namespace {

class LedgerHistoryTest : public ::testing::Test {
 protected:
  std::filesystem::path file() const { return folder_.path() / "ledger.db"; }
  static KeyRecord created(Ledger& ledger, const char* name) {
    JournalStep step;
    step.cka_id = CkaId::random();
    step.planned.cka_id = step.cka_id;
    step.planned.name = KeyName(name);
    KeyRecord record = step.planned;
    record.spki = random_bytes(91);
    record.kid = Kid(to_base64url(random_bytes(32)));
    record.reason = "created";
    ledger.begin_step(step);
    ledger.finish_create(record);
    return record;
  }
  static KeyRecord changed_to(KeyRecord record, KeyState state, WallTime when) {
    record.state = state;
    record.changed = when;
    return record;
  }
  static void toggle(Ledger& ledger, const KeyRecord& record, int times) {
    for (int i = 0; i < times; ++i) {
      const auto to = i % 2 == 0 ? KeyState::kSuspended : KeyState::kActive;
      ledger.record_states({{changed_to(record, to, system_clock().now()), KeyState::kActive}});
    }
  }
  // One that ended.
  static RekeyRecord rekeyed(Ledger& ledger, WallTime when, const std::string& actor) {
    RekeyRecord record;
    record.name = KeyName("mail");
    record.cka_id = CkaId::random();
    record.old_kid = Kid(to_base64url(random_bytes(32)));
    record.begun = record.changed = when;
    record.actor = actor;
    record = ledger.begin_rekey(record);
    record.step = RekeyStep::kAborted;
    ledger.record_rekey(record);
    return record;
  }
  test::TempFolder folder_;
};

TEST_F(LedgerHistoryTest, Fault153_HistoryIsBoundedAndForgetsDestroyedKeysFirst) {
  Ledger ledger(file(), 10);
  const std::vector<KeyRecord> records{created(ledger, "gone"), created(ledger, "here")};
  const WallTime now = system_clock().now();
  ledger.finish_destroy(changed_to(records[0], KeyState::kDestroyed, now), KeyState::kActive);
  EXPECT_EQ(ledger.history_size(), 3u);
  for (int i = 0; i < 30; ++i) {
    const auto to = i % 2 == 0 ? KeyState::kSuspended : KeyState::kActive;
    ledger.record_states({{changed_to(records[1], to, now), KeyState::kActive}});
    EXPECT_LE(ledger.history_size(), 10u);
    if (i == 7) {
      EXPECT_EQ(ledger.history(records[0].kid).size(), 1u) << "one had to go";
      EXPECT_EQ(ledger.history(records[1].kid).size(), 9u);
    }
  }
  EXPECT_TRUE(ledger.history(records[0].kid).empty());
  EXPECT_EQ(ledger.history(records[1].kid).size(), 10u);
  EXPECT_EQ(ledger.load().keys.size(), 2u) << "the digest fits, and no key is forgotten";
}

TEST_F(LedgerHistoryTest, Fault153_AKeyThatChangesOftenForgetsNothingOfOtherKeys) {
  Ledger ledger(file(), 100);
  const auto gone = created(ledger, "gone"), calm = created(ledger, "calm"),
             busy = created(ledger, "busy");
  toggle(ledger, calm, 4);
  ledger.finish_destroy(changed_to(gone, KeyState::kDestroyed, system_clock().now()),
                        KeyState::kActive);
  toggle(ledger, busy, 150);
  EXPECT_EQ(ledger.history_size(), 100u);
  EXPECT_EQ(ledger.history(calm.kid).size(), 5u);
  EXPECT_EQ(ledger.history(gone.kid).size(), 2u) << "destroyed ones go before a share, not before "
                                                    "what is beyond it";
  EXPECT_EQ(ledger.history(busy.kid).size(), 93u);
  EXPECT_EQ(ledger.history(busy.kid).back().to, KeyState::kActive) << "the newest are kept";
  ledger.set_history_rows(12);
  toggle(ledger, busy, 1);
  EXPECT_EQ(ledger.history(calm.kid).size(), 5u);
  EXPECT_TRUE(ledger.history(gone.kid).empty());
  EXPECT_EQ(ledger.history(busy.kid).size(), 7u);
}

TEST_F(LedgerHistoryTest, Fault153_FinishedRekeysAreBoundedAndAnInstancesOfTheLastWeekStay) {
  Ledger ledger(file(), 5);
  const WallTime now = system_clock().now();
  const auto rekeys = [&](WallTime when, const std::string& actor, int times) {
    for (int i = 0; i < times; ++i) rekeyed(ledger, when, actor);
    return ledger.load().rekeys.size();
  };
  EXPECT_EQ(rekeys(now - std::chrono::hours(24 * 30), kInstanceActor, 20), 20u);
  EXPECT_EQ(rekeys(now, kInstanceActor, 3), 5u);
  EXPECT_EQ(ledger.load().rekeys.back().id, 23u);
  EXPECT_EQ(rekeys(now, kInstanceActor, 7), 10u) << "an instance's orders of a day are counted";
  EXPECT_EQ(rekeys(now, "uid 1000", 30), 11u) << "a user's are bounded at once";
  const auto left = ledger.load().rekeys;
  EXPECT_EQ(std::count_if(left.begin(), left.end(),
                          [](const auto& each) { return each.actor == kInstanceActor; }),
            10);
  EXPECT_EQ(left.back().id, 60u);
}

TEST_F(LedgerHistoryTest, Fault153_WhatWasNotedOfARekeyGoesWithIt) {
  Ledger ledger(file(), 5);
  ledger.note("used/1", "is another's");
  for (int i = 0; i < 12; ++i) {
    const auto rekey = rekeyed(ledger, system_clock().now(), "uid 1000");
    ledger.note_drained(rekey.id, std::chrono::milliseconds(7));
  }
  const auto left = ledger.load().rekeys;
  ASSERT_EQ(left.size(), 5u);
  for (const auto& rekey : left) EXPECT_EQ(rekey.drained, std::chrono::milliseconds(7));
  EXPECT_EQ(ledger.noted_under("drained/").size(), 5u);
  EXPECT_EQ(ledger.noted_under("used/").size(), 1u);
}

}  // namespace
}  // namespace keyagent::keys
