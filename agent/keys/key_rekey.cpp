// SPDX-License-Identifier: Apache-2.0
// A rekey's effects on ledger and token, one at a time. Their order: rekey.cpp.

#include <algorithm>

#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

std::string text_of(const RekeyRecord& rekey) {
  return "the rekey of " + rekey.name.text();
}

}  // namespace

const RekeyRecord* under_way(const Snapshot& snapshot, const KeyName& name) {
  const auto found =
      std::find_if(snapshot.rekeys.begin(), snapshot.rekeys.end(), [&](const auto& each) {
        return each.name == name && !is_done(each.step) && each.step != RekeyStep::kDraining;
      });
  return found == snapshot.rekeys.end() ? nullptr : &*found;
}

RekeyRecord KeyStore::Impl::find_rekey(std::uint64_t id) const {
  const auto now = current();
  for (const auto& rekey : now->rekeys) {
    if (rekey.id == id) return rekey;
  }
  throw Error(Code::kUsage, "there is no rekey number " + std::to_string(id));
}

RekeyRecord KeyStore::Impl::moved(RekeyRecord rekey, RekeyEvent event) const {
  const auto to = next(rekey.step, event);
  if (!to) {
    throw Error(Code::kKeyState,
                text_of(rekey) + " is " + std::string(name_of(rekey.step)) +
                    (event == RekeyEvent::kAbortAsked ? ": it can no longer be aborted"
                                                      : ": this step is not possible now"),
                rekey.old_kid.text());
  }
  rekey.step = *to;
  rekey.changed = options.clock->now();
  return rekey;
}

void require_not_pinned(const KeyRecord& key, Purpose purpose) {
  if (!is_pinned(purpose)) return;
  const std::string cure =
      purpose == Purpose::kCa
          ? "set up a new instance with another CA key and a separate store (keyinstanced clone "
            "copies the data), where the agents enroll again"
          : "make another key (keyagent key create NAME --purpose confirm), name it in "
            "keyinstanced.yml as agent: confirmation-key, restart keyinstanced, and enroll each "
            "agent again with a token for its id (keyagent enroll URL --replace)";
  throw Error(Code::kUnsupported,
              "key " + key.name.text() +
                  " is not rekeyed: agents pinned it when they enrolled and would refuse what "
                  "another one signs; to replace it, " +
                  cure,
              key.kid.text());
}

void KeyStore::Impl::require_rekeyable(const KeyRecord& key) const {
  require_not_pinned(key, key.purpose);
  if (const auto served = vouched_as(key.kid)) require_not_pinned(key, *served);
}

RekeyRecord KeyStore::begin_rekey(const RekeyRequest& request, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const auto snapshot = impl_->current();
  const KeyRecord old = impl_->find(request.name.text());
  impl_->require_rekeyable(old);
  RekeyRecord rekey;
  rekey.name = request.name;
  rekey.old_kid = old.kid;
  rekey.algorithm = request.algorithm.value_or(old.algorithm);
  const bool keeps =
      old.envelope == EnvelopeAlgorithm::kNone || can_seal(rekey.algorithm, old.envelope);
  rekey.envelope = request.envelope.value_or(
      keeps ? old.envelope : default_envelope(old.purpose, rekey.algorithm));
  require_fitting(old.purpose, rekey.algorithm, rekey.envelope);
  if (const RekeyRecord* running = under_way(*snapshot, request.name)) {
    if (running->algorithm == rekey.algorithm && running->envelope == rekey.envelope)
      return *running;
    throw Error(Code::kExists,
                text_of(rekey) + " is in progress, to " + std::string(name_of(running->algorithm)) +
                    "; wait, or abort it: keyagent rekey " + rekey.name.text() + " --abort",
                old.kid.text());
  }
  impl_->require_within_limits(*snapshot, request, cause);
  rekey.cka_id = CkaId::random();
  rekey.begun = rekey.changed = impl_->options.clock->now();
  rekey.drain = request.drain;
  rekey.actor = cause.actor;
  rekey.reason = cause.reason;
  rekey = impl_->ledger.begin_rekey(rekey);
  impl_->republish();
  return rekey;
}

RekeyRecord KeyStore::make_next_key(std::uint64_t id) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const RekeyRecord rekey = impl_->find_rekey(id);
  if (rekey.step != RekeyStep::kPlanned) return rekey;
  const KeyRecord old = impl_->find(rekey.old_kid.text());
  JournalStep step;
  step.cka_id = step.planned.cka_id = rekey.cka_id;
  step.planned.name = rekey.name;
  step.planned.generation = impl_->next_generation(rekey.name);
  step.planned.purpose = old.purpose;
  step.planned.algorithm = rekey.algorithm;
  step.planned.envelope = rekey.envelope;
  step.planned.state = KeyState::kStaged;
  step.planned.exchangeable = old.exchangeable;
  step.planned.accepts_cbc = old.accepts_cbc;
  step.planned.actor = rekey.actor;
  step.planned.reason = "rekey: " + rekey.reason;
  // What an attempt left that could not be undone then: never two keys for one step (RELIABILITY
  // 21).
  if (impl_->vault.find(rekey.cka_id)) impl_->vault.destroy(rekey.cka_id);
  impl_->make(step);  // also moves the rekey to generated, in the same transaction
  return impl_->find_rekey(id);
}

void KeyStore::test_next_key(std::uint64_t id) {
  const KeyRecord key = find(rekey(id).new_kid.text());
  impl_->vault.adopt(vault_key(key));
  impl_->vault.self_test(vault_key(key));
}

RekeyRecord KeyStore::record_rekey(std::uint64_t id, RekeyEvent event, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  RekeyRecord rekey = impl_->moved(impl_->find_rekey(id), event);
  if (event == RekeyEvent::kRefused || event == RekeyEvent::kAbortAsked)
    rekey.reason = cause.reason;
  if (event == RekeyEvent::kSwitchDone) {
    impl_->switch_keys(rekey, cause);
  } else {
    impl_->ledger.record_rekey(rekey);
  }
  impl_->republish();
  return rekey;
}

// One transaction: at every moment exactly one generation is active.
void KeyStore::Impl::switch_keys(const RekeyRecord& rekey, const Cause& cause) {
  KeyRecord fresh = find(rekey.new_kid.text()), old = find(rekey.old_kid.text());
  if (fresh.state != KeyState::kStaged) {
    throw Error(Code::kKeyState,
                "the new key of " + rekey.name.text() + " is " + std::string(name_of(fresh.state)) +
                    " and does not become active",
                fresh.kid.text());
  }
  require_rekeyable(old);
  std::vector<Ledger::Changed> changed;
  const auto now = options.clock->now();
  if (may_become(old.state, KeyState::kDeactivated)) {
    changed.push_back({old, old.state});
    changed.back().key.state = KeyState::kDeactivated;
  }
  changed.push_back({fresh, fresh.state});
  changed.back().key.state = KeyState::kActive;
  changed.back().key.activated = now;
  for (auto& each : changed) {
    each.key.changed = now;
    each.key.actor = cause.actor;
    each.key.reason = "rekey: " + rekey.reason;
  }
  ledger.record_states(changed, &rekey);
  // Not one that was suspended: there is a reason not to trust it.
  if (old.state == KeyState::kActive && old.purpose == Purpose::kAuth)
    overlap.begin(old.kid, options.clock->now_steady());
}

RekeyRecord KeyStore::retire_old_key(std::uint64_t id) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const RekeyRecord rekey = impl_->moved(impl_->find_rekey(id), RekeyEvent::kDrained);
  const KeyRecord old = impl_->find(rekey.old_kid.text());
  if (old.state != KeyState::kDestroyed) {
    const Cause cause{"rekey: its drain period is over", rekey.actor};
    impl_->require_destroyable(old);
    impl_->begin_destruction(old, cause);
    impl_->finish_destruction(old, cause);
  }
  impl_->ledger.record_rekey(rekey);
  impl_->republish();
  return rekey;
}

RekeyRecord KeyStore::discard_next_key(std::uint64_t id) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const RekeyRecord rekey = impl_->moved(impl_->find_rekey(id), RekeyEvent::kDiscarded);
  const auto snapshot = impl_->current();
  const auto made = snapshot->by_kid.find(rekey.new_kid);
  if (!rekey.new_kid.empty() && made != snapshot->by_kid.end()) {
    const KeyRecord& fresh = snapshot->records[made->second];
    const Cause cause{"rekey aborted: " + rekey.reason, rekey.actor};
    if (fresh.state != KeyState::kDestroyed) {
      impl_->begin_destruction(fresh, cause);
      impl_->finish_destruction(fresh, cause);
    }
  } else {
    impl_->vault.destroy(rekey.cka_id);
  }
  impl_->ledger.record_rekey(rekey);
  impl_->republish();
  return rekey;
}

std::vector<RekeyRecord> KeyStore::rekeys() const {
  return impl_->current()->rekeys;
}

RekeyRecord KeyStore::rekey(std::uint64_t id) const {
  return impl_->find_rekey(id);
}

void KeyStore::note_drained(std::uint64_t id, std::chrono::milliseconds drained) {
  const MutexLock lock(impl_->change_mutex);
  impl_->ledger.note_drained(id, drained);
  auto fresh = std::make_shared<Snapshot>(*impl_->current());
  for (auto& rekey : fresh->rekeys) {
    if (rekey.id == id) rekey.drained = drained;
  }
  impl_->show(std::move(fresh));
}

}  // namespace keyagent::keys
