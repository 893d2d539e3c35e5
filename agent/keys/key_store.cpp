// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/key_store.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/base/shell_argument.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

constexpr const char* kUsedNote = "used/";

using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;

Number modulus_of(const Bytes& spki) {
  const unsigned char* der = spki.data();
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
  BIGNUM* n = nullptr;
  if (key) EVP_PKEY_get_bn_param(key.get(), OSSL_PKEY_PARAM_RSA_N, &n);
  return Number(n, BN_free);
}

// Weak randomness shows as a modulus that shares a factor with another (Heninger et al. 2012;
// RELIABILITY 70).
bool shares_factor(const Bytes& a, const Bytes& b) {
  const Number m = modulus_of(a), n = modulus_of(b);
  if (!m || !n) return false;
  const std::unique_ptr<BN_CTX, decltype(&BN_CTX_free)> context(BN_CTX_new(), BN_CTX_free);
  const Number divisor(BN_new(), BN_free);
  return BN_gcd(divisor.get(), m.get(), n.get(), context.get()) != 1 || !BN_is_one(divisor.get());
}

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

[[noreturn]] void throw_exists(const KeyRecord& known) {
  throw Error(Code::kExists,
              "key " + known.name.text() + " already exists as " +
                  std::string(name_of(known.purpose)) + ", " +
                  std::string(name_of(known.algorithm)) +
                  (known.exchangeable ? ", exchangeable" : "") +
                  (known.accepts_cbc ? ", accepting AES-CBC" : ""),
              known.kid.text());
}

}  // namespace

void require_fitting(Purpose purpose, KeyAlgorithm algorithm, EnvelopeAlgorithm envelope) {
  const bool fits =
      allowed(purpose, algorithm) &&
      (envelope == EnvelopeAlgorithm::kNone ? !opens(purpose)
                                            : opens(purpose) && can_seal(algorithm, envelope));
  if (fits) return;
  throw Error(
      Code::kUsage,
      "a " + std::string(name_of(purpose)) + " key cannot be " + std::string(name_of(algorithm)) +
          (envelope == EnvelopeAlgorithm::kNone ? "" : " with " + std::string(name_of(envelope))));
}

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

int KeyStore::Impl::next_generation(const KeyName& name) const {
  int newest = 0;
  const auto now = current();
  for (const auto& record : now->records) {
    if (record.name == name) newest = std::max(newest, record.generation);
  }
  return newest + 1;
}

KeyRecord KeyStore::Impl::complete(const JournalStep& step, const Bytes& spki) {
  KeyRecord record = step.planned;
  record.spki = spki;
  record.kid = spki.empty() ? Kid(to_hex(random_bytes(16))) : Kid(jwk_thumbprint(spki));
  record.created = record.changed = options.clock->now();
  if (record.state == KeyState::kActive) record.activated = record.created;
  const auto now = current();
  for (const auto& other : now->records) {
    if (is_rsa(record.algorithm) && is_rsa(other.algorithm) &&
        shares_factor(record.spki, other.spki)) {
      throw Error(Code::kIntegrity,
                  "the new RSA key shares a factor with key " + other.name.text() +
                      ": the token's random number generator is broken; the key was rejected");
    }
  }
  vault.self_test(vault_key(record));
  return record;
}

// Nothing of a creation that went wrong stays, as far as the token answers now; reconcile() does
// the rest later.
void KeyStore::Impl::undo(const CkaId& cka_id) {
  try {
    vault.destroy(cka_id);
    ledger.drop_step(cka_id);
    republish();
  } catch (const std::exception& error) {
    log_warning("keys",
                std::string("a key that was not completed is left for the next reconciliation: ") +
                    error.what());
  }
}

std::string KeyStore::Impl::label_of(const KeyName& name) const {
  return "keyagent:" + options.agent_id + ":" + name.text();
}

KeyRecord KeyStore::Impl::make(const JournalStep& step) {
  vault.require_writable();
  ledger.begin_step(step);
  KeyRecord record;
  try {
    const auto& planned = step.planned;
    const Bytes spki = vault.generate({step.cka_id, label_of(planned.name), planned.algorithm,
                                       planned.purpose, planned.exchangeable});
    record = complete(step, spki);
    ledger.finish_create(record);
  } catch (...) {
    undo(step.cka_id);
    throw;
  }
  return take_into_use(record);
}

// From here on the key exists, whatever else fails: a repetition finds it.
KeyRecord KeyStore::Impl::take_into_use(const KeyRecord& record) {
  republish();
  vault.adopt(vault_key(record));
  return record;
}

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

void KeyStore::Impl::forget_findings(const Kid& kid) {
  const MutexLock guard(snapshot_mutex);
  std::erase_if(findings, [&](const auto& finding) { return finding.kid == kid.text(); });
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
  if (sealed > 0) {
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

CreateResult KeyStore::create(const CreateRequest& request, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  JournalStep step;
  KeyRecord& planned = step.planned;
  planned.name = request.name;
  planned.purpose = request.purpose;
  planned.algorithm = request.algorithm.value_or(default_algorithm(request.purpose));
  planned.envelope =
      request.envelope.value_or(default_envelope(request.purpose, planned.algorithm));
  planned.exchangeable = request.exchangeable;
  planned.accepts_cbc = request.accepts_cbc;
  planned.reason = cause.reason;
  planned.actor = cause.actor;
  require_fitting(planned.purpose, planned.algorithm, planned.envelope);
  if (planned.exchangeable && planned.purpose != Purpose::kStorage)
    throw Error(Code::kUsage, "only storage keys are exchangeable");
  if (planned.accepts_cbc && planned.purpose != Purpose::kTransport)
    throw Error(Code::kUsage, "only transport keys can accept AES-CBC content");
  if (const auto named = purpose_of_name(request.name);
      named && planned.purpose == Purpose::kSign) {
    const std::string purpose(name_of(*named));
    throw Error(Code::kUsage, "the name " + request.name.text() +
                                  " is reserved for a key of purpose " + purpose +
                                  ": use --purpose " + purpose + ", or another name");
  }
  const auto snapshot = impl_->current();
  if (const KeyRecord* known = impl_->find_named(*snapshot, request.name)) {
    const bool fits = known->purpose == planned.purpose &&
                      (!request.algorithm || known->algorithm == planned.algorithm) &&
                      (!request.envelope || known->envelope == planned.envelope);
    // A name that only has what was imported gets its own key.
    const bool only_imported = !known->origin.empty() && known->state == KeyState::kDeactivated;
    if (fits && !only_imported && known->exchangeable == planned.exchangeable &&
        known->accepts_cbc == planned.accepts_cbc)
      return {*known, false};
    if (!fits || !only_imported) throw_exists(*known);
  }
  planned.generation = impl_->next_generation(request.name);
  step.cka_id = planned.cka_id = CkaId::random();
  return {impl_->make(step), true};
}

KeyRecord KeyStore::destroy(const std::string& which, const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const KeyRecord record = impl_->find(which);
  impl_->require_not_back(record);
  // One that came back with a backup of the token is destroyed again.
  if (record.state == KeyState::kDestroyed && !impl_->vault.find(record.cka_id)) return record;
  impl_->require_destroyable(record);
  impl_->begin_destruction(record, cause);
  impl_->finish_destruction(record, cause);
  impl_->republish();
  impl_->forget_findings(record.kid);
  return find(record.kid.text());
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
