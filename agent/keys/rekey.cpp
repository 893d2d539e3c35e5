// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/rekey.h"

#include <algorithm>
#include <iterator>

namespace keyagent::keys {
namespace {

struct Edge {
  RekeyStep from;
  RekeyEvent event;
  RekeyStep to;
};

constexpr Edge kEdges[] = {
    {RekeyStep::kPlanned, RekeyEvent::kKeyMade, RekeyStep::kGenerated},
    {RekeyStep::kPlanned, RekeyEvent::kRefused, RekeyStep::kAborting},
    {RekeyStep::kPlanned, RekeyEvent::kAbortAsked, RekeyStep::kAborting},
    {RekeyStep::kGenerated, RekeyEvent::kConfirmed, RekeyStep::kProved},
    {RekeyStep::kGenerated, RekeyEvent::kRefused, RekeyStep::kAborting},
    {RekeyStep::kGenerated, RekeyEvent::kAbortAsked, RekeyStep::kAborting},
    {RekeyStep::kProved, RekeyEvent::kSwitchDone, RekeyStep::kSwitched},
    {RekeyStep::kProved, RekeyEvent::kRefused, RekeyStep::kAborting},
    {RekeyStep::kProved, RekeyEvent::kAbortAsked, RekeyStep::kAborting},
    {RekeyStep::kSwitched, RekeyEvent::kAnnounced, RekeyStep::kDraining},
    {RekeyStep::kDraining, RekeyEvent::kDrained, RekeyStep::kDestroyed},
    {RekeyStep::kAborting, RekeyEvent::kDiscarded, RekeyStep::kAborted},
};

struct Named {
  RekeyStep step;
  std::string_view name;
  RekeyEffect effect;
};

constexpr Named kSteps[] = {
    {RekeyStep::kPlanned, "planned", RekeyEffect::kGenerate},
    {RekeyStep::kGenerated, "generated", RekeyEffect::kProve},
    {RekeyStep::kProved, "proved", RekeyEffect::kSwitch},
    {RekeyStep::kSwitched, "switched", RekeyEffect::kAnnounce},
    {RekeyStep::kDraining, "draining", RekeyEffect::kRetire},
    {RekeyStep::kDestroyed, "destroyed", RekeyEffect::kNone},
    {RekeyStep::kAborting, "aborting", RekeyEffect::kDiscard},
    {RekeyStep::kAborted, "aborted", RekeyEffect::kNone},
};

const Named& row_of(RekeyStep step) {
  return kSteps[static_cast<std::size_t>(step)];
}

}  // namespace

std::string_view name_of(RekeyStep step) {
  return row_of(step).name;
}

std::optional<RekeyStep> rekey_step_of(std::string_view name) {
  for (const auto& each : kSteps) {
    if (each.name == name) return each.step;
  }
  return std::nullopt;
}

std::optional<RekeyStep> next(RekeyStep step, RekeyEvent event) {
  const auto* edge = std::find_if(std::begin(kEdges), std::end(kEdges), [&](const Edge& each) {
    return each.from == step && each.event == event;
  });
  if (edge == std::end(kEdges)) return std::nullopt;
  return edge->to;
}

RekeyEffect effect_of(RekeyStep step) {
  return row_of(step).effect;
}

bool is_done(RekeyStep step) {
  return effect_of(step) == RekeyEffect::kNone;
}

bool is_before_switch(RekeyStep step) {
  return step == RekeyStep::kPlanned || step == RekeyStep::kGenerated || step == RekeyStep::kProved;
}

}  // namespace keyagent::keys
