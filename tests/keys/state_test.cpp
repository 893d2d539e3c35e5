// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/keys/key_store.h"

namespace keyagent::keys {
namespace {

constexpr KeyState kStates[] = {KeyState::kStaged,      KeyState::kActive,
                                KeyState::kSuspended,   KeyState::kDeactivated,
                                KeyState::kCompromised, KeyState::kDestroyed};

TEST(StateTable, R3_OnlyActiveAndDeactivatedKeysOpen) {
  for (const auto state : kStates) {
    EXPECT_EQ(state_allows(state, Use::kOpen),
              state == KeyState::kActive || state == KeyState::kDeactivated)
        << name_of(state);
  }
}

TEST(StateTable, OnlyAnActiveKeySignsAndSeals) {
  for (const auto state : kStates) {
    EXPECT_EQ(state_allows(state, Use::kSign), state == KeyState::kActive) << name_of(state);
    EXPECT_EQ(state_allows(state, Use::kSeal), state == KeyState::kActive) << name_of(state);
    EXPECT_TRUE(state_allows(state, Use::kVerify)) << name_of(state);
  }
}

TEST(StateTable, NothingComesBackFromDestructionAndNothingBecomesStaged) {
  for (const auto state : kStates) {
    EXPECT_FALSE(may_become(KeyState::kDestroyed, state));
    EXPECT_FALSE(may_become(state, KeyState::kStaged));
    EXPECT_FALSE(may_become(state, state)) << name_of(state);
  }
}

TEST(StateTable, ACompromisedKeyCanOnlyBeDestroyed) {
  for (const auto state : kStates) {
    EXPECT_EQ(may_become(KeyState::kCompromised, state), state == KeyState::kDestroyed)
        << name_of(state);
  }
}

TEST(StateTable, EveryStateButDestroyedCanBeDestroyed) {
  for (const auto state : kStates) {
    EXPECT_EQ(may_become(state, KeyState::kDestroyed), state != KeyState::kDestroyed)
        << name_of(state);
  }
}

}  // namespace
}  // namespace keyagent::keys
