// SPDX-License-Identifier: Apache-2.0
// The token, the keys in it, and what their health needs once a second.

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/daemon/daemon_impl.h"
#include "agent/daemon/owner_marker.h"
#include "agent/daemon/pin_source.h"

namespace keyagent::daemon {

using namespace std::chrono_literals;

namespace {

constexpr auto kBetweenLooksAtLimits = 10s;
constexpr auto kBetweenClaims = 60s;

}  // namespace

pkcs11::TokenOptions Daemon::Impl::token_options() {
  pkcs11::TokenOptions options;
  options.selector = {config.token_label, config.token_serial};
  options.pin = make_pin_source(config.pin);
  options.refused_pin_file = config.state_folder / "refused-pin";
  options.state_folder = config.state_folder;
  options.on_state = [this](pkcs11::TokenState token_state, const std::string& detail) {
    note_token(token_state, detail);
  };
  return options;
}

void Daemon::Impl::note_token(pkcs11::TokenState token_state, const std::string& detail) {
  if (token_state != pkcs11::TokenState::kUp) reconciled = false;
  chronicle.token(token_state, detail);
}

// Owner, ledger and audit key, as soon as the token is there. Token faults are for later; the
// rest ends the start.
void Daemon::Impl::bring_up_keys() {
  try {
    claimed = claim_token(vault, Owner::self(config.state_folder), config.take_over);
    claim_due = system_clock().now_steady() + kBetweenClaims;
    keys.reconcile();
    if (!ensure_audit_key()) return;
    if (audit.opened()) history.check_at_start();
    follow_audit_key();
    reconciled = true;
    setback.clear();
    note_damage({});
    tell_findings();
  } catch (const Error& error) {
    const bool later = (retryable(error.code()) && error.code() != Code::kBusy) ||
                       error.code() == Code::kTokenFull;
    const bool pin = error.code() == Code::kPinRefused || error.code() == Code::kPinLocked;
    // After a rollback the agent serves with all keys unusable, so that `keyagent doctor` can
    // report the reason.
    const bool rollback = error.code() == Code::kIntegrity;
    if (!later && !pin && !rollback) throw;
    if (rollback) note_damage(error.what());
    if (!rollback) keys.note_unreached(error);
    if (setback != error.what()) log_error("keys", error.what());
    setback = error.what();
  }
}

// What the comparison of ledger and token does not report itself.
void Daemon::Impl::note_damage(const std::string& what) {
  const MutexLock guard(damage_mutex);
  damage = what;
}

// Made at the first start, when that can be recorded.
bool Daemon::Impl::ensure_audit_key() {
  const auto all = keys.list();
  const bool there = std::any_of(all.begin(), all.end(), [&](const auto& key) {
    return key.name.text() == config.audit_key && key.state != KeyState::kDestroyed;
  });
  const std::string why = use_only().empty() ? audit.fault() : use_only();
  if (!why.empty()) {
    if (!there && setback != why) log_error("keys", "there is no audit key yet: " + why);
    if (!there) setback = why;
    return there;
  }
  const auto made =
      keys.create({KeyName(config.audit_key), Purpose::kAudit, std::nullopt, std::nullopt});
  if (made.created) chronicle.daemon("key.create", "audit key " + made.record.kid.text());
  return true;
}

// Logs each finding once, and its end. A key missed by a use was logged at that time.
void Daemon::Impl::tell_findings() {
  std::set<std::string> now;
  for (const auto& finding : keys.findings()) {
    now.insert(finding.text);
    const bool said = rechecks && finding.kind == keys::Finding::Kind::kKeyLost;
    if (!said && !told_findings.contains(finding.text)) log_warning("keys", finding.text);
  }
  for (const auto& text : told_findings)
    if (!now.contains(text)) log_info("keys", "no longer: " + text);
  told_findings = std::move(now);
}

// Checkpoints are signed by the active generation of the audit key, from its switch on.
void Daemon::Impl::follow_audit_key() {
  const auto record = keys.find(config.audit_key);
  const MutexLock guard(signer_mutex);
  if (record.state != KeyState::kActive || (signer && signer->kid() == record.kid)) return;
  auto fresh = std::make_unique<CheckpointSigner>(keys.ops(), record.kid,
                                                  *default_signature(record.algorithm));
  audit.set_signer([use = fresh.get()](ByteView payload) { return use->sign(payload); });
  // The log may still be inside the last one.
  audit.checkpoint();
  signer = std::move(fresh);
}

// A state folder that could not be written, and can be now.
void Daemon::Impl::resume_changes() {
  state.poll();
  if (!state.use_only().empty() || keys.use_only().empty()) return;
  try {
    if (keys.resume_changes()) reconciled = false;
  } catch (const Error& error) {
    if (setback != error.what()) log_error("keys", error.what());
    setback = error.what();
  }
}

void Daemon::Impl::watch_limits() {
  const auto now = system_clock().now_steady();
  if (now < limits_due) return;
  limits_due = now + kBetweenLooksAtLimits;
  limit_alarms.check(usage());
}

// Once a second: heal the token and finish what waited for it.
void Daemon::Impl::heal() {
  resume_changes();
  watch_limits();
  const auto status = token->status();
  if (status.stuck_calls != 0) return;
  if (status.state != pkcs11::TokenState::kUp && !token->check_health()) return;
  if (reconciled && !claimed && system_clock().now_steady() >= claim_due) reconciled = false;
  rechecks = reconciled && recheck.due(keys.misses_keys(), system_clock().now_steady());
  if (rechecks) reconciled = false;
  if (!reconciled) bring_up_keys();
  if (!reconciled) return;
  try {
    if (audit.opened()) history.check_at_start();
  } catch (const Error& error) {
    if (!retryable(error.code())) throw;
    return;  // the next round tries again
  }
  history.compare();
  history.anchor();
}

// Ends a process whose module hangs, and one that must not have this token.
void Daemon::Impl::watch() {
  caretaker.rethrow_failure();
  const auto now = system_clock().now_steady();
  // One call that hangs is enough: its session and its thread come back in no other way.
  const auto status = token->status();
  if (status.stuck_calls == 0 && status.state != pkcs11::TokenState::kStuck) {
    stuck_since = {};
  } else if (stuck_since == SteadyTime{}) {
    stuck_since = now;
  } else if (now - stuck_since > config.stuck_exit) {
    end_stuck();
  }
}

void Daemon::Impl::end_stuck() {
  log_error("daemon", "the module has not returned for " +
                          std::to_string(config.stuck_exit.count() / 1000) +
                          " s; exiting so that the service manager can restart the process");
  chronicle.daemon_if_possible("stop", "the PKCS#11 module hangs");
  ::_exit(4);
}

}  // namespace keyagent::daemon
