// Keys that vouch and were made as `sign` keys, before there were purposes for them.

#include <utility>

#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {

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
  const std::lock_guard lock(impl_->change_mutex);
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
  impl_->ledger.record_purposes(changed);
  impl_->republish();
  return true;
}

}  // namespace keyagent::keys
