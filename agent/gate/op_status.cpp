// SPDX-License-Identifier: Apache-2.0
// The agent's own state, and reload.

#include "agent/gate/answers.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

const char* name_of_state(pkcs11::TokenState state) {
  switch (state) {
    case pkcs11::TokenState::kUp:
      return "up";
    case pkcs11::TokenState::kAbsent:
      return "absent";
    case pkcs11::TokenState::kDown:
      return "down";
    case pkcs11::TokenState::kStuck:
      return "stuck";
    case pkcs11::TokenState::kPinRefused:
      return "pin-refused";
    case pkcs11::TokenState::kPinLocked:
      break;
  }
  return "pin-locked";
}

void describe_token(const pkcs11::TokenStatus& status, const std::string& profile,
                    wire::Token& token) {
  token.set_state(name_of_state(status.state));
  token.set_detail(status.detail);
  token.set_label(status.label);
  token.set_serial(status.serial);
  token.set_manufacturer(status.manufacturer);
  token.set_model(status.model);
  token.set_firmware(status.firmware);
  token.set_epoch(status.epoch);
  token.set_sessions_open(static_cast<std::uint32_t>(status.sessions_open));
  token.set_sessions_busy(static_cast<std::uint32_t>(status.sessions_busy));
  token.set_sessions_limit(static_cast<std::uint32_t>(status.sessions_limit));
  token.set_stuck_calls(static_cast<std::uint32_t>(status.stuck_calls));
  token.set_operations(status.operations);
  token.set_faults(status.faults);
  token.set_recoveries(status.recoveries);
  token.set_logins(status.logins);
  token.set_profile(profile);
}

// One's own, and for administrators everyone's.
void describe_pauses(const Call& call, wire::StatusReply& reply) {
  const auto& services = call.state.services;
  const bool all = call.may(policy::Action::kAdmin, {}, {});
  for (const auto& pause : call.state.budget.pauses()) {
    if (!all && pause.caller != caller_of(call.principal)) continue;
    auto& out = *reply.add_paused();
    out.set_caller(pause.caller);
    out.set_kid(pause.kid);
    out.set_key(services.keys.find(pause.kid).name.text());
    out.set_failures(pause.failures);
    out.set_until(rfc3339(services.clock.now() + std::chrono::duration_cast<WallTime::duration>(
                                                     pause.until - services.clock.now_steady())));
  }
}

}  // namespace

void run_status(Call& call) {
  auto& services = call.state.services;
  auto& reply = *call.response.mutable_status();
  auto& token = services.vault.token();
  const bool administers = call.may(policy::Action::kAdmin, {}, {});
  const auto figures =
      administers ? SampledFigures::live(call.state) : call.state.figures.sampled(call.state);
  describe_token(figures.token, token.profile().name, *reply.mutable_token());
  reply.mutable_token()->set_cannot_exchange(
      services.vault.missing_for_transfer(OaepHash::kSha1).empty()
          ? ""
          : services.vault.missing_for_transfer(OaepHash::kSha256));
  const KeyDescriber describer(call.state);
  for (const auto& record : describer.sorted()) {
    const std::string purpose = policy_purpose(record);
    if (record.state != KeyState::kDestroyed &&
        call.may(policy::Action::kPublic, record.name.text(), purpose))
      describer.describe(record, *reply.add_keys());
  }
  describe_pauses(call, reply);
  reply.set_audit_records(figures.audit_records);
  reply.set_audit_healthy(services.audit.healthy());
  reply.set_audit_fault(services.audit.fault());
  reply.set_ledger_epoch(services.keys.epoch());
  reply.set_findings(static_cast<std::uint32_t>(services.keys.findings().size()));
  reply.set_requests(figures.requests);
  reply.set_refused(figures.refused);
  reply.set_failed(figures.failed);
  reply.set_queued(figures.queued);
  services.around.complete(reply);
}

// What changes is recorded by the daemon, which also reloads on a signal.
void run_reload(Call& call) {
  call.response.mutable_reload()->set_text(call.state.services.around.reload());
}

}  // namespace keyagent::gate
