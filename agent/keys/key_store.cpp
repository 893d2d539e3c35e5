// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/key_store.h"

#include <algorithm>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

constexpr const char* kUsedNote = "used/";

// Which generation a name means: the active one; else one that may become active again; else the
// newest, so that its state explains the refusal. A staged one only when there is no other.
int rank_of(KeyState state) {
  switch (state) {
    case KeyState::kActive:
      return 3;
    case KeyState::kSuspended:
      return 2;
    case KeyState::kDeactivated:
    case KeyState::kCompromised:
      return 1;
    case KeyState::kStaged:
    case KeyState::kDestroyed:
      break;
  }
  return 0;
}

bool comes_before(const KeyRecord& a, const KeyRecord& b) {
  return std::pair(rank_of(a.state), a.generation) > std::pair(rank_of(b.state), b.generation);
}

}  // namespace

KeyStore::Impl::Impl(Options options_in, vault::TokenVault& vault_in)
    : options(std::move(options_in)),
      vault(vault_in),
      lock((make_private_folder(options.state_folder), options.state_folder / "lock")),
      ledger(options.state_folder / "ledger.db", options.history_rows),
      guarded(
          vault, [this] { return current(); }, *options.clock, believed, faulty, overlap),
      proving(
          vault, [this] { return current(); }, *options.clock, believed, faulty, overlap,
          GuardedKeys::Leniency::kStaged),
      rekeying(
          vault, [this] { return current(); }, *options.clock, believed, faulty, overlap,
          GuardedKeys::Leniency::kPastPeriod),
      handshaking(
          vault, [this] { return current(); }, *options.clock, believed, faulty, overlap,
          GuardedKeys::Leniency::kHandshakes) {
  refusal.emplace(Code::kTokenFault,
                  "ledger and token are not reconciled yet; no changes are possible before that");
  for (const auto& [kid, seconds] : ledger.noted_under(kUsedNote)) {
    if (const auto known = Kid::parse(kid))
      used.slot(*known) = std::strtoll(seconds.c_str(), nullptr, 10);
  }
  use_only = ledger.read_only();
  begin_enforcement();
  publish(ledger.load(), [](KeyRecord& record) {
    record.usable = false;
    record.finding = "the token was not reached yet";
  });
  set_unreached(Error(Code::kTokenFault, "the token was not reached yet"));
}

std::shared_ptr<const Snapshot> KeyStore::Impl::current() const {
  const MutexLock guard(snapshot_mutex);
  return snapshot;
}

void KeyStore::Impl::publish(LedgerState state, const std::function<void(KeyRecord&)>& mark) {
  history_size = ledger.history_size();
  auto fresh = std::make_shared<Snapshot>();
  fresh->records = std::move(state.keys);
  fresh->rekeys = std::move(state.rekeys);
  fresh->census = std::move(state.census);
  fresh->certificates = std::move(state.certificates);
  fresh->epoch = state.epoch;
  fresh->digest = state.digest;
  for (std::size_t i = 0; i < fresh->records.size(); ++i) {
    KeyRecord& record = fresh->records[i];
    narrow_by_name(record);
    fresh->by_kid[record.kid] = i;
    fresh->uses.push_back(&used.slot(record.kid));
    if (record.state == KeyState::kDestroyed) continue;
    mark(record);
    const auto [known, first] = fresh->by_name.emplace(record.name.text(), i);
    if (!first && comes_before(record, fresh->records[known->second])) known->second = i;
  }
  show(std::move(fresh));
}

void KeyStore::Impl::set_unreached(const Error& why) {
  const MutexLock guard(snapshot_mutex);
  auto fresh = std::make_shared<Snapshot>(*snapshot);
  fresh->unreached = why;
  snapshot = std::move(fresh);
}

void KeyStore::Impl::republish() {
  const auto before = current();
  publish(ledger.reload(), [&](KeyRecord& record) {
    const auto known = before->by_kid.find(record.kid);
    if (known == before->by_kid.end()) return;
    record.usable = before->records[known->second].usable;
    record.finding = before->records[known->second].finding;
    record.mismatched = before->records[known->second].mismatched;
  });
  remember_epoch();
}

void KeyStore::Impl::require_reconciled() const {
  if (refusal) throw Error(*refusal);
}

void KeyStore::Impl::set_findings(std::vector<Finding> fresh) {
  const MutexLock guard(snapshot_mutex);
  findings = std::move(fresh);
}

const KeyRecord* KeyStore::Impl::find_named(const Snapshot& from, const KeyName& name) const {
  const auto found = from.by_name.find(name.text());
  return found == from.by_name.end() ? nullptr : &from.records[found->second];
}

KeyRecord KeyStore::Impl::find(const std::string& which) const {
  const auto now = current();
  if (const auto kid = Kid::parse(which)) return record_of(*now, *kid);
  const auto name = KeyName::parse(which);
  const KeyRecord* named = name ? find_named(*now, *name) : nullptr;
  if (named == nullptr) {
    throw Error(Code::kKeyNotPresent,
                "no key '" + escape_controls(which) + "' exists; run: keyagent key list");
  }
  return *named;
}

void KeyStore::Impl::forget_findings(const Kid& kid) {
  const MutexLock guard(snapshot_mutex);
  std::erase_if(findings, [&](const auto& finding) { return finding.kid == kid.text(); });
}

KeyStore::KeyStore(Options options, vault::TokenVault& vault)
    : impl_(std::make_unique<Impl>(std::move(options), vault)) {}
KeyStore::~KeyStore() = default;

bool KeyStore::misses_keys() const {
  if (impl_->faulty.missed()) return true;
  const MutexLock lock(impl_->snapshot_mutex);
  return std::any_of(impl_->findings.begin(), impl_->findings.end(),
                     [](const auto& finding) { return finding.kind == Finding::Kind::kKeyLost; });
}

std::vector<Finding> KeyStore::findings() const {
  const MutexLock lock(impl_->snapshot_mutex);
  return impl_->findings;
}

std::uint64_t KeyStore::reconciliations() const {
  return impl_->reconciliations;
}

KeyRecord KeyStore::change_state(const std::string& which, KeyState to, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  KeyRecord record = impl_->find(which);
  if (record.state == to) return record;
  // Staged and deactivated are a rekey's work, destroyed is destroy()'s.
  const bool asked = to == KeyState::kSuspended || to == KeyState::kCompromised ||
                     (to == KeyState::kActive && record.state == KeyState::kSuspended);
  if (!asked || !may_become(record.state, to)) {
    throw Error(Code::kKeyState,
                "key " + record.name.text() + " is " + std::string(name_of(record.state)) +
                    " and cannot become " + std::string(name_of(to)),
                record.kid.text());
  }
  // Its fix is a token that signs right again, and here it shows whether it does.
  if (to == KeyState::kActive && record.reason.starts_with(kWrongSignature))
    impl_->vault.self_test(vault_key(record));
  const KeyState before = record.state;
  record.state = to;
  record.changed = impl_->options.clock->now();
  record.reason = cause.reason;
  record.actor = cause.actor;
  impl_->ledger.record_states({{record, before}});
  impl_->republish();
  return find(record.kid.text());
}

std::vector<KeyRecord> KeyStore::suspend_faulty() {
  std::vector<KeyRecord> suspended;
  for (const auto& [kid, what] : impl_->faulty.all()) {
    auto record = find(kid.text());
    impl_->overlap.end(kid);
    if (record.state == KeyState::kActive) {
      record = change_state(kid.text(), KeyState::kSuspended,
                            {std::string(kWrongSignature) + ": " + what, "internal:keys"});
      suspended.push_back(record);
    }
    // A staged key stays out of use until its rekey discards it.
    if (record.state != KeyState::kStaged) impl_->faulty.remove(kid);
  }
  return suspended;
}

std::vector<StateChange> KeyStore::history(const Kid& kid) const {
  const MutexLock lock(impl_->change_mutex);
  return impl_->ledger.history(kid);
}

void KeyStore::note(const std::string& name, const std::string& value) {
  const MutexLock lock(impl_->change_mutex);
  impl_->ledger.note(name, value);
}

std::string KeyStore::noted(const std::string& name) const {
  const MutexLock lock(impl_->change_mutex);
  return impl_->ledger.noted(name);
}

std::map<Kid, WallTime> KeyStore::last_used() const {
  return impl_->used.all();
}

void KeyStore::note_uses() {
  const MutexLock lock(impl_->change_mutex);
  for (const auto& [kid, when] : impl_->used.all()) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(when.time_since_epoch());
    impl_->ledger.note(kUsedNote + kid.text(), std::to_string(seconds.count()));
  }
}

std::vector<KeyRecord> KeyStore::list() const {
  return impl_->current()->records;
}

KeyRecord KeyStore::find(const std::string& which) const {
  return impl_->find(which);
}

pkcs11::Custody KeyStore::prove_custody(const std::string& which) {
  return impl_->vault.prove_custody(vault_key(find(which)));
}

KeyOps& KeyStore::ops() {
  return impl_->guarded;
}

KeyOps& KeyStore::handshake_ops() {
  return impl_->handshaking;
}

KeyOps& KeyStore::proving_ops() {
  return impl_->proving;
}

std::uint64_t KeyStore::epoch() const {
  return impl_->current()->epoch;
}

std::string KeyStore::digest() const {
  return impl_->current()->digest;
}

}  // namespace keyagent::keys
