// SPDX-License-Identifier: Apache-2.0
// Ledger and token compared, and what a crash left finished (README.md has the table).

#include <algorithm>
#include <charconv>
#include <set>

#include "agent/base/encoding.h"
#include "agent/base/log.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {
namespace {

constexpr const char* kEpochFact = "ledger-epoch";

}  // namespace

// The token's copy of the epoch; nullopt when it has none yet. Anything but a number was not
// written by an agent.
std::optional<std::uint64_t> KeyStore::Impl::epoch_in_token() {
  const auto fact = vault.read_fact(kEpochFact);
  if (!fact) return std::nullopt;
  std::uint64_t epoch = 0;
  const auto parsed = std::from_chars(fact->data(), fact->data() + fact->size(), epoch);
  if (parsed.ec != std::errc{} || parsed.ptr != fact->data() + fact->size()) {
    throw Error(
        Code::kIntegrity,
        "the token's copy of the ledger's epoch, its data object ledger-epoch, is not a number; no "
        "keys are used");
  }
  return epoch;
}

// The token's copy is written after the ledger's: one behind means a crash between the two writes,
// ahead means that the ledger is from a backup. Never lowered.
void KeyStore::Impl::remember_epoch() {
  const auto now = current()->epoch;
  require_no_rollback(now);
  // Migrated in memory only: the file keeps its epoch, and the token must not be ahead of it.
  if (!ledger.read_only().empty()) return;
  if (epoch_in_token() == now) return;
  try {
    vault.write_fact(kEpochFact, std::to_string(now));
  } catch (const Error& error) {
    // The change is in the ledger and stays; the next one brings the token's copy up to it.
    if (error.code() != Code::kTokenFull) throw;
    log_warning("keys",
                std::string("the token's copy of the ledger's epoch is behind: ") + error.what());
  }
}

void KeyStore::Impl::require_no_rollback(std::uint64_t epoch) {
  const auto in_token = epoch_in_token();
  if (!in_token || *in_token <= epoch) return;
  const std::string text = "the ledger is older than the token: its epoch is " +
                           std::to_string(epoch) + ", the token has seen " +
                           std::to_string(*in_token) +
                           " (was a backup restored?); no keys are used";
  set_findings({make_finding(Finding::Kind::kRollback, finding_kind("ledger-rollback"), "",
                             options.state_folder.string(), text)});
  throw Error(Code::kIntegrity, text);
}

// What was usable is not anymore: the ledger must not be obeyed.
void KeyStore::Impl::distrust(const Error& why) {
  refusal.emplace(why);
  if (why.code() != Code::kIntegrity && current()->unreached) set_unreached(why);
  if (why.code() != Code::kIntegrity) return;
  auto fresh = std::make_shared<Snapshot>(*current());
  fresh->unreached.reset();
  for (auto& record : fresh->records) {
    if (record.state == KeyState::kDestroyed) continue;
    record.usable = false;
    record.mismatched = true;
    record.finding = why.what();
  }
  const MutexLock guard(snapshot_mutex);
  snapshot = std::move(fresh);
}

// A step that a full or read-only token refuses stays in the journal; no other key waits for it.
void KeyStore::Impl::finish_steps(const Plan& plan, const LedgerState& state,
                                  std::vector<Finding>& found) {
  const auto attempt = [&](const JournalStep& step, const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      if (error.code() != Code::kTokenFull) throw;
      // The plan that follows has a finding for each destruction that is left.
      if (step.kind == JournalStep::Kind::kDestroy) return;
      found.push_back(make_finding(
          Finding::Kind::kUnfinished, finding_kind("creation-unfinished"), step.planned.kid.text(),
          step.planned.name.text(),
          "a change of key " + step.planned.name.text() + " is not finished: " + error.what()));
    }
  };
  for (const auto& step : plan.finish)
    attempt(step, [&]() REQUIRES(change_mutex) { finish_one(step, found); });
  for (const auto& step : plan.forget) ledger.drop_step(step.cka_id);
  for (const auto& step : plan.remove)
    attempt(step, [&]() REQUIRES(change_mutex) { remove_one(step, state, found); });
}

void KeyStore::Impl::remove_one(const JournalStep& step, const LedgerState& state,
                                std::vector<Finding>& found) {
  if (step.kind == JournalStep::Kind::kCreate) {
    vault.destroy(step.cka_id);
    ledger.drop_step(step.cka_id);
    found.push_back(make_finding(
        Finding::Kind::kOrphanRemoved, finding_kind("orphan-removed"), "", step.planned.name.text(),
        "an incomplete key of a crash under the CKA_ID " + step.cka_id.hex() + " was removed"));
    return;
  }
  const auto row = std::find_if(state.keys.begin(), state.keys.end(),
                                [&](const auto& key) { return key.cka_id == step.cka_id; });
  if (row != state.keys.end()) finish_destruction(*row, {step.planned.reason, step.planned.actor});
}

void KeyStore::Impl::finish_one(const JournalStep& step, std::vector<Finding>& found) {
  try {
    vault.require_custody(vault_key(step.planned));
    ledger.finish_create(complete(step, vault.read_spki(step.cka_id).value_or(Bytes{})));
  } catch (const Error& error) {
    if (retryable(error.code())) throw;
    vault.destroy(step.cka_id);
    ledger.drop_step(step.cka_id);
    found.push_back(make_finding(Finding::Kind::kOrphanRemoved, finding_kind("orphan-removed"), "",
                                 step.planned.name.text(),
                                 std::string("an incomplete key was removed: ") + error.what()));
  }
}

// Adopts what the token really has; the rest is a finding.
void KeyStore::Impl::adopt_all(const std::vector<KeyRecord>& keys,
                               std::map<Kid, std::string>& broken, std::vector<Finding>& found) {
  for (const auto& key : keys) {
    try {
      vault.adopt(vault_key(key));
    } catch (const Error& error) {
      if (retryable(error.code()) && error.code() != Code::kKeyLost) throw;
      const bool differs = error.code() == Code::kIntegrity;
      broken[key.kid] = error.what();
      found.push_back(
          make_finding(differs ? Finding::Kind::kMismatch : Finding::Kind::kKeyLost,
                       differs ? finding_kind("key-mismatch") : finding_kind("key-missed"),
                       key.kid.text(), key.name.text(), error.what()));
    }
  }
}
void KeyStore::Impl::reconcile() {
  faulty.look();
  LedgerState state = ledger.load();
  require_no_rollback(state.epoch);
  std::vector<Finding> found;
  {
    auto objects = vault.objects();
    // What is missing counts as missing only when a fresh run of the module misses it too.
    if (misses_any(state, objects) && vault.look_again()) objects = vault.objects();
    const Plan steps = plan_reconciliation(state, objects);
    // What was begun is finished once it can be recorded.
    if (ledger.read_only().empty()) finish_steps(steps, state, found);
  }
  state = ledger.load();
  const Plan plan = plan_reconciliation(state, vault.objects());
  std::map<Kid, std::string> broken;
  std::set<Kid> mismatched;
  for (const auto& key : plan.unusable) {
    broken[key.kid] = key.finding;
    vault.forget(key.kid);
  }
  found.insert(found.end(), plan.findings.begin(), plan.findings.end());
  adopt_all(plan.adopt, broken, found);
  for (const auto& finding : found) {
    if (finding.kind == Finding::Kind::kMismatch) mismatched.insert(Kid(finding.kid));
  }
  publish(std::move(state), [&](KeyRecord& record) {
    const auto fault = broken.find(record.kid);
    record.usable = fault == broken.end();
    record.finding = record.usable ? "" : fault->second;
    record.mismatched = mismatched.contains(record.kid);
  });
  remember_epoch();
  set_findings(std::move(found));
  ++reconciliations;
}

void KeyStore::note_unreached(const Error& why) {
  const MutexLock lock(impl_->change_mutex);
  if (impl_->current()->unreached) impl_->set_unreached(why);
}

void KeyStore::reconcile() {
  const MutexLock lock(impl_->change_mutex);
  try {
    impl_->reconcile();
    impl_->refusal.reset();
  } catch (const Error& error) {
    impl_->distrust(error);
    throw;
  }
}

}  // namespace keyagent::keys
