// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rekey as a table: step × event → step, and what each step wants done. Pure: no I/O, no clock, so
// that a test walks it a million times. The picture: README.md.

#include <optional>
#include <string_view>

namespace keyagent::keys {

// Where a rekey stands. It is journaled before anything is done about it, so a crash finds the step
// whose effect may have been done, in part or not at all; every effect is therefore idempotent.
enum class RekeyStep {
  kPlanned,    // the new CKA_ID is chosen; the token may hold nothing, a part, or the key
  kGenerated,  // the new key is in the token, in state staged, self-tested
  kProved,     // its peer (or the self-test alone) has confirmed it
  kSwitched,   // new key active, old one deactivated, in one transaction
  kDraining,   // the peer has the new key; the old key opens pending data
  kDestroyed,  // the old key is destroyed: done
  kAborting,   // aborted before the switch; the new key must be destroyed
  kAborted     // nothing of it is left; the old key is unchanged: done
};

enum class RekeyEvent {
  kKeyMade,
  kConfirmed,
  kRefused,  // by the peer, or by a failed self-test
  kSwitchDone,
  kAnnounced,
  kDrained,
  kAbortAsked,
  kDiscarded
};

// What is to be done at a step.
enum class RekeyEffect {
  kNone,
  kGenerate,  // make the key under the journaled id
  kProve,     // self-test it in a fresh session and ask the peer
  kSwitch,    // swap the states in one transaction
  kAnnounce,  // tell the peer that the new key is in effect
  kRetire,    // when the drain is over and no sealed data names it: destroy the old key
  kDiscard    // destroy what was made of the new key
};

// "planned" "generated" "proved" "switched" "draining" "destroyed" "aborting" "aborted"
std::string_view name_of(RekeyStep step);
std::optional<RekeyStep> rekey_step_of(std::string_view name);

// nullopt: this event cannot happen at this step (the caller refuses it with kKeyState).
std::optional<RekeyStep> next(RekeyStep step, RekeyEvent event);
RekeyEffect effect_of(RekeyStep step);
// Nothing is left to do.
bool is_done(RekeyStep step);
// The old key is still the one in use: no second rekey of the same name may begin, this one may be
// aborted.
bool is_before_switch(RekeyStep step);

}  // namespace keyagent::keys
