// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/reconcile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/encoding.h"

namespace keyagent::keys {
namespace {

KeyRecord pair_record(const char* name) {
  KeyRecord record;
  record.name = KeyName(name);
  record.kid = Kid(to_base64url(random_bytes(32)));
  record.cka_id = CkaId::random();
  return record;
}

vault::TokenObject object(const CkaId& id, bool has_public, bool has_private, int duplicates = 0) {
  vault::TokenObject out;
  out.cka_id.assign(id.bytes.begin(), id.bytes.end());
  out.has_public = has_public;
  out.has_private = has_private;
  out.duplicates = duplicates;
  return out;
}

struct Row {
  const char* name;
  bool has_public, has_private;
  int duplicates;
  // What is planned for a journaled creation, and for a recorded key.
  bool finish, remove, forget, adopt;
  std::optional<Finding::Kind> finding;
};

constexpr Row kRows[] = {
    {"none", false, false, 0, false, false, true, false, Finding::Kind::kKeyLost},
    {"public only", true, false, 0, false, true, false, false, Finding::Kind::kKeyLost},
    {"private only", false, true, 0, false, true, false, false, Finding::Kind::kKeyLost},
    {"both", true, true, 0, true, false, false, true, std::nullopt},
    {"both, twice", true, true, 1, false, true, false, false, Finding::Kind::kDuplicate},
};

std::vector<vault::TokenObject> token_of(const Row& row, const CkaId& id) {
  if (!row.has_public && !row.has_private) return {};
  return {object(id, row.has_public, row.has_private, row.duplicates)};
}

TEST(Reconcile, Fault055_AJournaledCreationIsFinishedRemovedOrForgotten) {
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    JournalStep step;
    step.planned = pair_record("one");
    step.cka_id = step.planned.cka_id;
    LedgerState ledger;
    ledger.journal = {step};
    const Plan plan = plan_reconciliation(ledger, token_of(row, step.cka_id));
    EXPECT_EQ(plan.finish.size(), row.finish ? 1u : 0u);
    EXPECT_EQ(plan.remove.size(), row.remove ? 1u : 0u);
    EXPECT_EQ(plan.forget.size(), row.forget ? 1u : 0u);
    EXPECT_TRUE(plan.adopt.empty());
    EXPECT_TRUE(plan.findings.empty());
  }
}

// What a crash left of an import is removed, whole or not: its package is delivered again.
TEST(Reconcile, AJournaledImportIsRemovedOrForgottenAndNeverFinished) {
  JournalStep step;
  step.planned = pair_record("data.customers");
  step.planned.algorithm = KeyAlgorithm::kAes256;
  step.cka_id = step.planned.cka_id;
  auto whole = object(step.cka_id, false, false);
  whole.has_secret = true;
  LedgerState ledger;
  ledger.journal = {step};
  ASSERT_EQ(plan_reconciliation(ledger, {whole}).finish.size(), 1u) << "one that was made here is";
  ledger.journal[0].planned.origin = "imported from somebody, request 1";
  const Plan plan = plan_reconciliation(ledger, {whole});
  EXPECT_TRUE(plan.finish.empty());
  EXPECT_EQ(plan.remove.size(), 1u);
  EXPECT_EQ(plan_reconciliation(ledger, {}).forget.size(), 1u);
}

TEST(Reconcile, ARecordedKeyIsAdoptedOrAFindingAndNeverDeleted) {
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    LedgerState ledger;
    ledger.keys = {pair_record("one")};
    const Plan plan = plan_reconciliation(ledger, token_of(row, ledger.keys[0].cka_id));
    EXPECT_EQ(plan.adopt.size(), row.adopt ? 1u : 0u);
    EXPECT_EQ(plan.unusable.size(), row.adopt ? 0u : 1u);
    EXPECT_TRUE(plan.remove.empty());
    ASSERT_EQ(plan.findings.size(), row.finding ? 1u : 0u);
    if (row.finding) {
      EXPECT_EQ(plan.findings[0].kind, *row.finding);
      EXPECT_EQ(plan.findings[0].kid, ledger.keys[0].kid.text());
      EXPECT_FALSE(plan.findings[0].cure.empty());
    }
  }
}

TEST(Reconcile, Fault164_DestroyingIsNotAdvisedWhenTheTokenHasNoneOfOurKeys) {
  LedgerState ledger;
  ledger.keys = {pair_record("one"), pair_record("two")};
  for (const auto& finding : plan_reconciliation(ledger, {}).findings)
    EXPECT_THAT(finding.cure, ::testing::Not(::testing::HasSubstr("key destroy")));
  EXPECT_TRUE(misses_any(ledger, {}));
}

// A kid may begin with a dash, which would be read as an option.
TEST(Reconcile, Fault164_TheFixOfEachKeyIsACommandThatTakesItsKid) {
  LedgerState ledger;
  ledger.keys = {pair_record("lost"), pair_record("here"), pair_record("ghost")};
  const std::string dashed = to_base64url(Bytes(32, 0xFB));
  ASSERT_EQ(dashed.front(), '-');
  ledger.keys[0].kid = ledger.keys[2].kid = Kid(dashed);
  ledger.keys[2].state = KeyState::kDestroyed;
  const Plan plan = plan_reconciliation(ledger, {object(ledger.keys[1].cka_id, true, true),
                                                 object(ledger.keys[2].cka_id, true, true)});
  ASSERT_EQ(plan.findings.size(), 2u);
  for (const auto& finding : plan.findings)
    EXPECT_THAT(finding.cure, ::testing::HasSubstr("keyagent key destroy -- " + dashed));
}

TEST(Reconcile, Fault055_StrangersAreCountedAndNeverTouched) {
  const Plan plan = plan_reconciliation(
      {}, {object(CkaId::random(), true, true), object(CkaId::random(), true, false)});
  EXPECT_TRUE(plan.remove.empty());
  EXPECT_TRUE(plan.finish.empty());
  ASSERT_EQ(plan.findings.size(), 1u);
  EXPECT_EQ(plan.findings[0].kind, Finding::Kind::kForeign);
  EXPECT_THAT(plan.findings[0].text, ::testing::HasSubstr("2 keys"));
}

TEST(Reconcile, ABegunDestructionIsFinishedWhateverIsLeft) {
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.name);
    LedgerState ledger;
    ledger.keys = {pair_record("one")};
    ledger.journal = {{JournalStep::Kind::kDestroy, ledger.keys[0].cka_id, ledger.keys[0]}};
    const Plan plan = plan_reconciliation(ledger, token_of(row, ledger.keys[0].cka_id));
    EXPECT_EQ(plan.remove.size(), 1u);
    EXPECT_TRUE(plan.adopt.empty());
    ASSERT_EQ(plan.unusable.size(), 1u) << "it is not used before that either";
    ASSERT_EQ(plan.findings.size(), 1u);
    EXPECT_EQ(plan.findings[0].kind, Finding::Kind::kUnfinished);
  }
}

TEST(Reconcile, ADestroyedKeyIsNotMissed) {
  LedgerState ledger;
  ledger.keys = {pair_record("gone")};
  ledger.keys[0].state = KeyState::kDestroyed;
  const Plan plan = plan_reconciliation(ledger, {});
  EXPECT_TRUE(plan.findings.empty());
  EXPECT_TRUE(plan.adopt.empty());
}

TEST(Reconcile, R13_ADestroyedKeyThatIsThereAgainIsAGhostAndIsNotUsed) {
  for (const auto& row : kRows) {
    if (!row.has_public && !row.has_private) continue;
    SCOPED_TRACE(row.name);
    LedgerState ledger;
    ledger.keys = {pair_record("gone")};
    ledger.keys[0].state = KeyState::kDestroyed;
    const Plan plan = plan_reconciliation(ledger, token_of(row, ledger.keys[0].cka_id));
    ASSERT_EQ(plan.findings.size(), 1u);
    EXPECT_EQ(plan.findings[0].kind, Finding::Kind::kGhost);
    EXPECT_THAT(plan.findings[0].cure, ::testing::HasSubstr(ledger.keys[0].kid.text()));
    EXPECT_TRUE(plan.adopt.empty());
    EXPECT_TRUE(plan.remove.empty());
  }
}

}  // namespace
}  // namespace keyagent::keys
