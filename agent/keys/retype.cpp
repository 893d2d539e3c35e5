// SPDX-License-Identifier: Apache-2.0
// Attestation keys that were created with the purpose `sign` before attestation purposes existed.

#include <utility>

#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

std::string note_of(const Kid& kid) {
  return "vouches/" + kid.text();
}

}  // namespace

std::optional<Purpose> purpose_of_name(const KeyName& name) {
  static constexpr std::pair<std::string_view, Purpose> kNames[] = {
      {"instance-ca", Purpose::kCa},
      {"instance-confirm", Purpose::kConfirm},
      {"exchange-identity", Purpose::kIdentity}};
  for (const auto& [known, purpose] : kNames) {
    if (name.text() == known) return purpose;
  }
  return std::nullopt;
}

void narrow_by_name(KeyRecord& record) {
  const auto purpose =
      record.purpose == Purpose::kSign ? purpose_of_name(record.name) : std::nullopt;
  if (!purpose) return;
  record.purpose = *purpose;
  record.narrowed = true;
}

bool KeyStore::retype(const KeyName& name, Purpose to, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  if (!vouches(to))
    throw Error(Code::kUsage, "a key can be retyped only to identity, ca or confirm");
  std::vector<KeyRecord> changed;
  const auto snapshot = impl_->current();
  bool known = false;
  for (const auto& record : snapshot->records) {
    if (record.name != name || record.state == KeyState::kDestroyed) continue;
    known = true;
    if (record.purpose == to && !record.narrowed) continue;
    if (record.purpose != to && record.purpose != Purpose::kSign)
      throw Error(Code::kKeyState,
                  "key " + name.text() + " is for " + std::string(name_of(record.purpose)) +
                      ": only a sign key can be retyped",
                  record.kid.text());
    changed.push_back(record);
    auto& fresh = changed.back();
    fresh.purpose = to;
    fresh.changed = impl_->options.clock->now();
    fresh.actor = cause.actor;
    fresh.reason = cause.reason;
  }
  if (!known)
    throw Error(Code::kKeyNotPresent,
                "no key '" + name.text() + "' exists; run: keyagent key list");
  if (changed.empty()) return false;
  if (under_way(*snapshot, name) != nullptr)
    throw Error(Code::kKeyState,
                "key " + name.text() +
                    " is not retyped: it is being rekeyed; wait, or: keyagent rekey " +
                    name.text() + " --abort",
                changed.back().kid.text());
  impl_->ledger.record_purposes(changed);
  impl_->republish();
  return true;
}

// A key that was used as several stays the one that must not be replaced.
void KeyStore::note_vouching(const Kid& kid, Purpose purpose) {
  const MutexLock lock(impl_->change_mutex);
  const auto known = impl_->vouched_as(kid);
  if (known && is_pinned(*known)) return;
  impl_->ledger.note(note_of(kid), std::string(name_of(purpose)));
}

std::optional<Purpose> KeyStore::vouched_as(const Kid& kid) const {
  const MutexLock lock(impl_->change_mutex);
  return impl_->vouched_as(kid);
}

std::optional<Purpose> KeyStore::Impl::vouched_as(const Kid& kid) const {
  const auto noted = purpose_of(ledger.noted(note_of(kid)));
  return noted && vouches(*noted) ? noted : std::nullopt;
}

}  // namespace keyagent::keys
