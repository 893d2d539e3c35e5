// SPDX-License-Identifier: Apache-2.0
// The rekey table against a small model, and the states of keys over whole lives.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "agent/keys/key_store.h"
#include "agent/keys/rekey.h"

namespace keyagent::keys {
namespace {

constexpr RekeyStep kSteps[] = {RekeyStep::kPlanned,  RekeyStep::kGenerated, RekeyStep::kProved,
                                RekeyStep::kSwitched, RekeyStep::kDraining,  RekeyStep::kDestroyed,
                                RekeyStep::kAborting, RekeyStep::kAborted};
constexpr RekeyEvent kEvents[] = {RekeyEvent::kKeyMade,    RekeyEvent::kConfirmed,
                                  RekeyEvent::kRefused,    RekeyEvent::kSwitchDone,
                                  RekeyEvent::kAnnounced,  RekeyEvent::kDrained,
                                  RekeyEvent::kAbortAsked, RekeyEvent::kDiscarded};

// What a rekey means, without steps: which of the two keys exist, and which is in use.
struct Model {
  bool new_exists = false, old_exists = true, switched = false, confirmed = false, given_up = false;

  // False: this cannot happen now.
  bool apply(RekeyEvent event) {
    switch (event) {
      case RekeyEvent::kKeyMade:
        return !new_exists && !given_up && !switched && (new_exists = true);
      case RekeyEvent::kConfirmed:
        return new_exists && !confirmed && !given_up && (confirmed = true);
      case RekeyEvent::kRefused:
      case RekeyEvent::kAbortAsked:
        return !switched && !given_up && (given_up = true);
      case RekeyEvent::kSwitchDone:
        return confirmed && !switched && !given_up && (switched = true);
      case RekeyEvent::kAnnounced:
        return switched && !announced && (announced = true);
      case RekeyEvent::kDrained:
        return announced && old_exists && !(old_exists = false);
      case RekeyEvent::kDiscarded:
        return given_up && !discarded && !(new_exists = false) && (discarded = true);
    }
    return false;
  }
  bool announced = false, discarded = false;
  bool in_use_exists() const { return switched ? new_exists : old_exists; }
};

TEST(RekeyTable, R8_AMillionRandomEventsNeverLeaveANameWithoutItsKey) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_int_distribution<std::size_t> draw(0, std::size(kEvents) - 1);
  RekeyStep step = RekeyStep::kPlanned;
  Model model;
  int finished = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const RekeyEvent event = kEvents[draw(random)];
    Model tried = model;
    const bool may = tried.apply(event);
    const auto to = next(step, event);
    ASSERT_EQ(to.has_value(), may) << name_of(step) << " event " << static_cast<int>(event);
    if (!to) continue;
    step = *to;
    model = tried;
    ASSERT_TRUE(model.in_use_exists()) << name_of(step);
    ASSERT_EQ(is_before_switch(step), !model.switched && !model.given_up);
    if (!is_done(step)) continue;
    ASSERT_EQ(model.new_exists, step == RekeyStep::kDestroyed);
    ++finished;
    step = RekeyStep::kPlanned;
    model = Model{};
  }
  EXPECT_GT(finished, 1000);
}

TEST(RekeyTable, EveryStepThatIsNotDoneHasAnEffectAndAWayOn) {
  for (const auto step : kSteps) {
    EXPECT_EQ(rekey_step_of(name_of(step)), step);
    bool goes_on = false;
    for (const auto event : kEvents) goes_on |= next(step, event).has_value();
    EXPECT_EQ(goes_on, !is_done(step)) << name_of(step);
  }
}

TEST(KeyStates, R12_EveryTransitionIsInTheTableOrRefused) {
  using enum KeyState;
  const std::map<KeyState, std::set<KeyState>> table{
      {kStaged, {kActive, kCompromised, kDestroyed}},
      {kActive, {kSuspended, kDeactivated, kCompromised, kDestroyed}},
      {kSuspended, {kActive, kDeactivated, kCompromised, kDestroyed}},
      {kDeactivated, {kCompromised, kDestroyed}},
      {kCompromised, {kDestroyed}},
      {kDestroyed, {}}};
  for (const auto& [from, allowed_to] : table) {
    for (const auto& [to, unused] : table)
      EXPECT_EQ(may_become(from, to), allowed_to.contains(to))
          << name_of(from) << " to " << name_of(to);
  }
}

}  // namespace
}  // namespace keyagent::keys
