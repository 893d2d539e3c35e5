// SPDX-License-Identifier: Apache-2.0
// Key transfer: the ledger's checks and records before and after the token's operation.

#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

// What is sealed to it is to be read at the other end: so much as it may do here.
void require_opens(const KeyRecord& key) {
  if (!state_allows(key.state, Use::kOpen)) {
    throw Error(Code::kKeyState,
                "key " + key.name.text() + " is " + std::string(name_of(key.state)) +
                    " and cannot be exchanged",
                key.kid.text());
  }
  if (!key.usable)
    throw Error(key.mismatched ? Code::kIntegrity : Code::kKeyLost,
                "key " + key.name.text() + " cannot be used: " + key.finding, key.kid.text());
}

}  // namespace

vault::Birth birth_of(const KeyRecord& record) {
  if (!record.origin.empty()) return vault::Birth::kImported;
  return record.exchangeable ? vault::Birth::kExchangeable : vault::Birth::kHere;
}

Bytes KeyStore::wrap_for(const Kid& kid, ByteView recipient_spki, OaepHash hash) {
  const KeyRecord key = find(kid.text());
  require_opens(key);
  // One that others would seal with again: past its originator period it is rekeyed first.
  if (key.state == KeyState::kActive) require_use(kid, Use::kSeal);
  return impl_->vault.wrap_for(kid, recipient_spki, hash);
}

void KeyStore::Impl::require_same(const KeyRecord& known, const ImportRequest& request) {
  if (known.state == KeyState::kDestroyed) {
    throw Error(
        Code::kKeyState,
        "key " + known.kid.text() + " was destroyed in this agent and cannot be imported again",
        known.kid.text());
  }
  const bool alike = known.purpose == Purpose::kStorage && known.usable;
  if (alike && vault.holds_same(known.kid, request.transferred)) return;
  throw Error(Code::kIntegrity,
              "another key already has the kid " + known.kid.text() + ", as " + known.name.text() +
                  "; nothing was imported",
              known.kid.text());
}

ImportResult KeyStore::import(const ImportRequest& request, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  require_opens(impl_->find(request.transferred.unwrapping.text()));
  const auto snapshot = impl_->current();
  if (const auto known = snapshot->by_kid.find(request.kid); known != snapshot->by_kid.end()) {
    const KeyRecord& record = snapshot->records[known->second];
    impl_->require_same(record, request);
    return {record, false};
  }
  JournalStep step;
  KeyRecord& planned = step.planned;
  planned.name = request.name;
  planned.kid = request.kid;
  planned.purpose = Purpose::kStorage;
  planned.algorithm = KeyAlgorithm::kAes256;
  planned.envelope = default_envelope(planned.purpose, planned.algorithm);
  planned.changed = impl_->options.clock->now();
  planned.origin = request.origin;
  planned.reason = cause.reason;
  planned.actor = cause.actor;
  const KeyRecord* named = impl_->find_named(*snapshot, request.name);
  if (named != nullptr && named->purpose != Purpose::kStorage) {
    throw Error(Code::kExists,
                "key " + named->name.text() + " is for " + std::string(name_of(named->purpose)),
                named->kid.text());
  }
  planned.generation = impl_->next_generation(request.name);
  planned.created = request.created;
  const bool taken = named != nullptr && named->state != KeyState::kDeactivated;
  planned.state = request.into_use && !taken ? KeyState::kActive : KeyState::kDeactivated;
  if (planned.state == KeyState::kActive) planned.activated = planned.changed;
  step.cka_id = planned.cka_id = CkaId::random();
  impl_->vault.require_writable();
  impl_->ledger.begin_step(step);
  try {
    impl_->vault.import(step.cka_id, impl_->label_of(request.name), request.transferred);
    impl_->vault.self_test(vault_key(planned));
    impl_->ledger.finish_create(planned);
  } catch (...) {
    impl_->undo(step.cka_id);
    throw;
  }
  return {impl_->take_into_use(planned), true};
}

}  // namespace keyagent::keys
