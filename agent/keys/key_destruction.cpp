// SPDX-License-Identifier: Apache-2.0
// The end of a key: what forbids it, its journal, its removal from the token.

#include <algorithm>

#include "agent/base/shell_argument.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {

void KeyStore::Impl::begin_destruction(const KeyRecord& record, const Cause& cause) {
  vault.require_writable();
  JournalStep step{JournalStep::Kind::kDestroy, record.cka_id, record};
  step.planned.actor = cause.actor;
  step.planned.reason = cause.reason;
  ledger.begin_step(step);
}

void KeyStore::Impl::finish_destruction(KeyRecord record, const Cause& cause) {
  vault.destroy(record.cka_id);
  vault.forget(record.kid);
  const KeyState before = record.state;
  record.state = KeyState::kDestroyed;
  record.changed = options.clock->now();
  record.reason = cause.reason;
  record.actor = cause.actor;
  ledger.finish_destroy(record, before);
}

// Nothing can open what is sealed to it anymore, so a reseal cannot be asked for. In a token
// without any of our keys, this one is only away (RELIABILITY 164).
bool KeyStore::Impl::is_gone(const KeyRecord& record) const {
  if (record.state == KeyState::kDestroyed) return true;
  const auto now = current();
  const bool others_here = std::any_of(
      now->records.begin(), now->records.end(),
      [](const auto& each) { return each.usable && each.state != KeyState::kDestroyed; });
  if (record.usable || !others_here) return false;
  const auto object = vault.find(record.cka_id);
  return !object || (!object->has_private && !object->has_secret);
}

// MISSION R12: destroying is the one change that cannot be taken back.
void KeyStore::Impl::require_destroyable(const KeyRecord& record) const {
  const auto now = current();
  const auto refuse = [&](const std::string& why) {
    throw Error(Code::kKeyState, "key " + record.name.text() + " is not destroyed: " + why,
                record.kid.text());
  };
  const auto counted = now->census->sealed.find(record.kid);
  const std::uint64_t sealed = counted == now->census->sealed.end() ? 0 : counted->second;
  if (sealed > 0 && !is_gone(record)) {
    refuse(std::to_string(sealed) +
           " sealed envelopes name it (keyagent census list); reseal them with keyagent reseal");
  }
  for (const auto& rekey : now->rekeys) {
    if (rekey.old_kid != record.kid && rekey.new_kid != record.kid) continue;
    if (!is_done(rekey.step) && rekey.step != RekeyStep::kDraining)
      refuse("it is being rekeyed; wait, or: keyagent rekey " + record.name.text() + " --abort");
    if (rekey.step == RekeyStep::kDraining && rekey.old_kid == record.kid &&
        record.state == KeyState::kDeactivated && record.usable && rekey.drained < rekey.drain) {
      refuse(
          "it is in its drain period and needed for envelopes in transit; if it is compromised: "
          "keyagent key revoke " +
          as_argument(record.kid.text()));
    }
  }
}

// Anyone who destroys a key because it is lost must not destroy one that is only away: another look
// decides, and a key that it finds stays.
void KeyStore::Impl::require_not_back(const KeyRecord& record) {
  if (record.state == KeyState::kDestroyed) return;
  if (record.usable && vault.find(record.cka_id)) return;
  vault.look_again();
  reconcile();
  if (!find(record.kid.text()).usable) return;
  throw Error(Code::kKeyState,
              "key " + record.name.text() +
                  " is not destroyed: it was missing and is in the token again; to destroy it "
                  "anyway, repeat the command",
              record.kid.text());
}

KeyRecord KeyStore::destroy(const std::string& which, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  impl_->require_not_back(impl_->find(which));
  const KeyRecord record = impl_->find(which);  // as the search found it
  // One that came back with a backup of the token is destroyed again.
  if (record.state == KeyState::kDestroyed && !impl_->vault.find(record.cka_id)) return record;
  impl_->require_destroyable(record);
  impl_->begin_destruction(record, cause);
  impl_->finish_destruction(record, cause);
  impl_->republish();
  impl_->forget_findings(record.kid);
  return find(record.kid.text());
}

}  // namespace keyagent::keys
