// The agent's own state, and reload.

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

}  // namespace

void run_status(Call& call) {
  auto& services = call.state.services;
  auto& reply = *call.response.mutable_status();
  auto& token = services.vault->token();
  describe_token(token.status(), token.profile().name, *reply.mutable_token());
  reply.mutable_token()->set_cannot_exchange(
      services.vault->missing_for_transfer(OaepHash::kSha1).empty()
          ? ""
          : services.vault->missing_for_transfer(OaepHash::kSha256));
  const KeyDescriber describer(call.state);
  for (const auto& record : describer.sorted()) {
    const std::string purpose(name_of(record.purpose));
    if (record.state != KeyState::kDestroyed &&
        call.may(policy::Action::kPublic, record.name.text(), purpose))
      describer.describe(record, *reply.add_keys());
  }
  reply.set_audit_records(services.audit->size());
  reply.set_audit_healthy(services.audit->healthy());
  reply.set_ledger_epoch(services.keys->epoch());
  reply.set_findings(static_cast<std::uint32_t>(services.keys->findings().size()));
  const auto& counters = call.state.counters;
  reply.set_requests(counters.requests);
  reply.set_refused(counters.refused);
  reply.set_failed(counters.failed);
  reply.set_queued(counters.queued);
  if (services.describe) services.describe(reply);
}

// What changes is recorded by the daemon, which also reloads on a signal.
void run_reload(Call& call) {
  if (!call.state.services.reload) throw Error(Code::kUnsupported, "this agent does not reload");
  call.response.mutable_reload()->set_text(call.state.services.reload());
}

}  // namespace keyagent::gate
