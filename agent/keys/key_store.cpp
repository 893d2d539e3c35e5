#include "agent/keys/key_store.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/keys/guarded_keys.h"
#include "agent/keys/ledger.h"
#include "agent/keys/reconcile.h"

namespace keyagent::keys {
namespace {

constexpr const char* kEpochFact = "ledger-epoch";

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

vault::VaultKey vault_key(const KeyRecord& record) {
  return {info_of(record), record.cka_id};
}

}  // namespace

struct KeyStore::Impl {
  const Options options;
  vault::TokenVault& vault;
  const FileLock lock;
  std::mutex change_mutex;  // one change at a time; held across the token's work
  Ledger ledger;            // guarded by change_mutex
  mutable std::mutex snapshot_mutex;
  std::shared_ptr<const Snapshot> snapshot;  // guarded by snapshot_mutex
  std::vector<Finding> findings;             // guarded by snapshot_mutex
  std::optional<Error> refusal;  // guarded by change_mutex: why nothing may be changed; none after
                                 // a good reconciliation
  GuardedKeys guarded;

  Impl(Options options_in, vault::TokenVault& vault_in)
      : options(std::move(options_in)),
        vault(vault_in),
        lock((make_private_folder(options.state_folder), options.state_folder / "lock")),
        ledger(options.state_folder / "ledger.db"),
        guarded(vault, [this] { return current(); }) {
    refusal.emplace(Code::kTokenFault,
                    "ledger and token were not compared yet; nothing is changed before that");
    publish(ledger.load(), [](KeyRecord& record) {
      record.usable = false;
      record.finding = "the token was not reached yet";
    });
  }

  std::shared_ptr<const Snapshot> current() const {
    const std::lock_guard guard(snapshot_mutex);
    return snapshot;
  }

  // Readers get the new state at once; `mark` sets what only the token knows (usable, finding).
  void publish(LedgerState state, const std::function<void(KeyRecord&)>& mark) {
    auto fresh = std::make_shared<Snapshot>();
    fresh->records = std::move(state.keys);
    fresh->epoch = state.epoch;
    fresh->digest = state.digest;
    for (std::size_t i = 0; i < fresh->records.size(); ++i) {
      if (fresh->records[i].state != KeyState::kDestroyed) {
        mark(fresh->records[i]);
        fresh->active_by_name[fresh->records[i].name.text()] = i;
      }
      fresh->by_kid[fresh->records[i].kid] = i;
    }
    const std::lock_guard guard(snapshot_mutex);
    snapshot = std::move(fresh);
  }

  // After a change: the rest stays as the last reconciliation marked it.
  void republish() {
    const auto before = current();
    publish(ledger.load(), [&](KeyRecord& record) {
      const auto known = before->by_kid.find(record.kid);
      if (known == before->by_kid.end()) return;
      record.usable = before->records[known->second].usable;
      record.finding = before->records[known->second].finding;
    });
    remember_epoch();
  }

  // The token's copy of the epoch; nullopt where it keeps none yet. A text that is no number is
  // somebody else's work.
  std::optional<std::uint64_t> epoch_in_token() {
    const auto fact = vault.read_fact(kEpochFact);
    if (!fact) return std::nullopt;
    std::uint64_t epoch = 0;
    const auto parsed = std::from_chars(fact->data(), fact->data() + fact->size(), epoch);
    if (parsed.ec != std::errc{} || parsed.ptr != fact->data() + fact->size()) {
      throw Error(Code::kIntegrity,
                  "the token's copy of the ledger's epoch is no number; nothing is used");
    }
    return epoch;
  }

  // The token's copy is written after the ledger's: one behind is a crash in between, ahead is a
  // ledger from a backup. Never lowered.
  void remember_epoch() {
    const auto now = current()->epoch;
    require_no_rollback(now);
    if (epoch_in_token() != now) vault.write_fact(kEpochFact, std::to_string(now));
  }

  void require_no_rollback(std::uint64_t epoch) {
    const auto in_token = epoch_in_token();
    if (!in_token || *in_token <= epoch) return;
    const std::string text = "the ledger is older than the token: its epoch is " +
                             std::to_string(epoch) + ", the token has seen " +
                             std::to_string(*in_token) +
                             " (a backup was restored?); nothing is used";
    set_findings({{Finding::Kind::kRollback, "", options.state_folder.string(), text,
                   "put the newest ledger.db back; if it is lost, provision a new token and seal "
                   "the credentials to its keys again"}});
    throw Error(Code::kIntegrity, text);
  }

  void require_reconciled() const {
    if (refusal) throw Error(*refusal);
  }

  // What was usable is not any more: the ledger must not be obeyed.
  void distrust(const Error& why) {
    refusal.emplace(why);
    if (why.code() != Code::kIntegrity) return;
    auto fresh = std::make_shared<Snapshot>(*current());
    for (auto& record : fresh->records) {
      if (record.state == KeyState::kDestroyed) continue;
      record.usable = false;
      record.finding = why.what();
    }
    const std::lock_guard guard(snapshot_mutex);
    snapshot = std::move(fresh);
  }

  void reconcile();

  void set_findings(std::vector<Finding> fresh) {
    const std::lock_guard guard(snapshot_mutex);
    findings = std::move(fresh);
  }

  static const KeyRecord* find_active(const Snapshot& from, const KeyName& name) {
    const auto found = from.active_by_name.find(name.text());
    return found == from.active_by_name.end() ? nullptr : &from.records[found->second];
  }

  KeyRecord complete(JournalStep step, const Bytes& spki) {
    KeyRecord record = step.planned;
    record.spki = spki;
    record.kid = spki.empty() ? Kid(to_hex(random_bytes(16))) : Kid(jwk_thumbprint(spki));
    record.created = record.changed = options.clock->now();
    record.reason = "created";
    for (const auto& other : current()->records) {
      if (is_rsa(record.algorithm) && is_rsa(other.algorithm) &&
          shares_factor(record.spki, other.spki)) {
        throw Error(Code::kIntegrity,
                    "the new RSA key shares a factor with key " + other.name.text() +
                        ": the token's random numbers are not random; it was not taken into use");
      }
    }
    vault.self_test(vault_key(record));
    return record;
  }

  // Nothing of a creation that went wrong stays, as far as the token answers now; reconcile() does
  // the rest later.
  void undo(const CkaId& cka_id) {
    try {
      vault.destroy(cka_id);
      ledger.drop_step(cka_id);
      republish();
    } catch (const std::exception& error) {
      log_warning(
          "keys",
          std::string("a key that was not completed is left for the next reconciliation: ") +
              error.what());
    }
  }

  void finish_destruction(KeyRecord record, const std::string& reason) {
    vault.destroy(record.cka_id);
    vault.forget(record.kid);
    record.state = KeyState::kDestroyed;
    record.changed = options.clock->now();
    record.reason = reason;
    ledger.finish_destroy(record);
  }

  void finish_steps(const Plan& plan, const LedgerState& state, std::vector<Finding>& found) {
    for (const auto& step : plan.finish) finish_one(step, found);
    for (const auto& step : plan.forget) ledger.drop_step(step.cka_id);
    for (const auto& step : plan.remove) {
      if (step.kind == JournalStep::Kind::kCreate) {
        vault.destroy(step.cka_id);
        ledger.drop_step(step.cka_id);
        found.push_back({Finding::Kind::kOrphanRemoved, "", step.planned.name.text(),
                         "a key that a crash left half-made under our CKA_ID " + step.cka_id.hex() +
                             " was removed",
                         ""});
        continue;
      }
      const auto row = std::find_if(state.keys.begin(), state.keys.end(),
                                    [&](const auto& key) { return key.cka_id == step.cka_id; });
      if (row != state.keys.end()) finish_destruction(*row, "destroyed (finished after a restart)");
    }
  }

  void finish_one(const JournalStep& step, std::vector<Finding>& found) {
    try {
      ledger.finish_create(complete(step, vault.read_spki(step.cka_id).value_or(Bytes{})));
    } catch (const Error& error) {
      if (retryable(error.code())) throw;
      vault.destroy(step.cka_id);
      ledger.drop_step(step.cka_id);
      found.push_back({Finding::Kind::kOrphanRemoved, "", step.planned.name.text(),
                       std::string("a half-made key was removed: ") + error.what(), ""});
    }
  }

  // Adopts what the token really has; the rest is a finding.
  void adopt_all(const std::vector<KeyRecord>& keys, std::map<Kid, std::string>& broken,
                 std::vector<Finding>& found) {
    for (const auto& key : keys) {
      try {
        vault.adopt(vault_key(key));
      } catch (const Error& error) {
        if (retryable(error.code()) && error.code() != Code::kKeyLost) throw;
        const auto kind =
            error.code() == Code::kIntegrity ? Finding::Kind::kMismatch : Finding::Kind::kKeyLost;
        broken[key.kid] = error.what();
        found.push_back({kind, key.kid.text(), key.name.text(), error.what(),
                         "restore the token from its backup; if the key is gone for good: keyagent "
                         "key destroy " +
                             key.kid.text()});
      }
    }
  }
};

KeyStore::KeyStore(Options options, vault::TokenVault& vault)
    : impl_(std::make_unique<Impl>(std::move(options), vault)) {}
KeyStore::~KeyStore() = default;

void KeyStore::Impl::reconcile() {
  LedgerState state = ledger.load();
  require_no_rollback(state.epoch);
  std::vector<Finding> found;
  {
    const Plan steps = plan_reconciliation(state, vault.objects());
    finish_steps(steps, state, found);
  }
  state = ledger.load();
  const Plan plan = plan_reconciliation(state, vault.objects());
  std::map<Kid, std::string> broken;
  for (const auto& key : plan.unusable) {
    broken[key.kid] = key.finding;
    vault.forget(key.kid);
  }
  found.insert(found.end(), plan.findings.begin(), plan.findings.end());
  adopt_all(plan.adopt, broken, found);
  publish(std::move(state), [&](KeyRecord& record) {
    const auto fault = broken.find(record.kid);
    record.usable = fault == broken.end();
    record.finding = record.usable ? "" : fault->second;
  });
  remember_epoch();
  set_findings(std::move(found));
}

void KeyStore::reconcile() {
  const std::lock_guard lock(impl_->change_mutex);
  try {
    impl_->reconcile();
    impl_->refusal.reset();
  } catch (const Error& error) {
    impl_->distrust(error);
    throw;
  }
}

std::vector<Finding> KeyStore::findings() const {
  const std::lock_guard lock(impl_->snapshot_mutex);
  return impl_->findings;
}

CreateResult KeyStore::create(const CreateRequest& request) {
  const std::lock_guard lock(impl_->change_mutex);
  impl_->require_reconciled();
  JournalStep step;
  KeyRecord& planned = step.planned;
  planned.name = request.name;
  planned.purpose = request.purpose;
  planned.algorithm = request.algorithm.value_or(default_algorithm(request.purpose));
  planned.envelope =
      request.envelope.value_or(default_envelope(request.purpose, planned.algorithm));
  const bool fits = allowed(planned.purpose, planned.algorithm) &&
                    (planned.envelope == EnvelopeAlgorithm::kNone
                         ? !opens(planned.purpose)
                         : opens(planned.purpose) && can_seal(planned.algorithm, planned.envelope));
  if (!fits) {
    throw Error(Code::kUsage, "a " + std::string(name_of(planned.purpose)) + " key cannot be " +
                                  std::string(name_of(planned.algorithm)) +
                                  (planned.envelope == EnvelopeAlgorithm::kNone
                                       ? ""
                                       : " with " + std::string(name_of(planned.envelope))));
  }
  const auto snapshot = impl_->current();
  if (const KeyRecord* known = Impl::find_active(*snapshot, request.name)) {
    const bool same = known->purpose == planned.purpose &&
                      (!request.algorithm || known->algorithm == planned.algorithm) &&
                      (!request.envelope || known->envelope == planned.envelope);
    if (same) return {*known, false};
    throw Error(Code::kExists,
                "key " + known->name.text() + " exists already as " +
                    std::string(name_of(known->purpose)) + ", " +
                    std::string(name_of(known->algorithm)),
                known->kid.text());
  }
  for (const auto& record : snapshot->records) {
    if (record.name == request.name)
      planned.generation = std::max(planned.generation, record.generation + 1);
  }
  step.cka_id = planned.cka_id = CkaId::random();
  impl_->ledger.begin_step(step);
  KeyRecord record;
  try {
    const std::string label = "keyagent:" + impl_->options.agent_id + ":" + request.name.text();
    const Bytes spki =
        impl_->vault.generate({step.cka_id, label, planned.algorithm, planned.purpose});
    record = impl_->complete(step, spki);
    impl_->ledger.finish_create(record);
  } catch (...) {
    impl_->undo(step.cka_id);
    throw;
  }
  // From here on the key exists, whatever else fails: a repetition finds it.
  impl_->republish();
  impl_->vault.adopt(vault_key(record));
  return {record, true};
}

KeyRecord KeyStore::destroy(const std::string& which, const std::string& reason) {
  const std::lock_guard lock(impl_->change_mutex);
  impl_->require_reconciled();
  const KeyRecord record = find(which);
  if (record.state == KeyState::kDestroyed) return record;
  JournalStep step{JournalStep::Kind::kDestroy, record.cka_id, record};
  impl_->ledger.begin_step(step);
  impl_->finish_destruction(record, reason);
  impl_->republish();
  return find(record.kid.text());
}

std::vector<KeyRecord> KeyStore::list() const {
  return impl_->current()->records;
}

KeyRecord KeyStore::find(const std::string& which) const {
  const auto snapshot = impl_->current();
  if (const auto kid = Kid::parse(which)) return record_of(*snapshot, *kid);
  const auto name = KeyName::parse(which);
  const KeyRecord* active = name ? Impl::find_active(*snapshot, *name) : nullptr;
  if (active == nullptr) {
    throw Error(Code::kKeyNotPresent,
                "no key '" + escape_controls(which) + "' is here; run: keyagent key list");
  }
  return *active;
}

pkcs11::Custody KeyStore::prove_custody(const std::string& which) {
  return impl_->vault.prove_custody(vault_key(find(which)));
}

KeyOps& KeyStore::ops() {
  return impl_->guarded;
}

std::uint64_t KeyStore::epoch() const {
  return impl_->current()->epoch;
}

std::string KeyStore::digest() const {
  return impl_->current()->digest;
}

}  // namespace keyagent::keys
