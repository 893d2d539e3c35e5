// SPDX-License-Identifier: Apache-2.0
// Diagnoses: the problem, the key, and the fix.

#include <string>

#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

wire::Diagnosis diagnosis(std::string severity, std::string code, std::string kid,
                          std::string subject, std::string text, std::string cure) {
  wire::Diagnosis result;
  result.set_severity(std::move(severity));
  result.set_code(std::move(code));
  result.set_kid(std::move(kid));
  result.set_subject(std::move(subject));
  result.set_text(std::move(text));
  result.set_cure(std::move(cure));
  return result;
}

struct Judged {
  const char* severity;
  const char* code;
};

Judged judge(keys::Finding::Kind kind) {
  using Kind = keys::Finding::Kind;
  switch (kind) {
    case Kind::kOrphanRemoved:
      return {"info", "ORPHAN_REMOVED"};
    case Kind::kForeign:
      return {"info", "FOREIGN"};
    case Kind::kUnfinished:
      return {"warning", "UNFINISHED"};
    case Kind::kKeyLost:
      return {"error", "KEY_LOST"};
    case Kind::kGhost:
      return {"warning", "GHOST"};
    case Kind::kDuplicate:
    case Kind::kMismatch:
    case Kind::kRollback:
    case Kind::kIntegrity:
      break;
  }
  return {"error", "INTEGRITY"};
}

void diagnose_token(const Services& services, wire::DoctorReply& reply) {
  auto& token = services.vault.token();
  const auto status = token.status();
  const auto& fault_hint = token.profile().fault_hint;
  const auto add = [&](const char* code, const std::string& text, const std::string& cure) {
    *reply.add_findings() = diagnosis("error", code, "", status.label, text, cure);
  };
  switch (status.state) {
    case pkcs11::TokenState::kUp:
      return;
    case pkcs11::TokenState::kAbsent:
      return add("TOKEN_ABSENT", "the token is absent: " + status.detail,
                 "connect it or start its service" + (fault_hint.empty() ? "" : "; " + fault_hint) +
                     "; the agent reconnects automatically");
    case pkcs11::TokenState::kDown:
      return add("TOKEN_FAULT", "the token responds with errors: " + status.detail,
                 (fault_hint.empty() ? "check the token and its service" : fault_hint) +
                     "; the agent reconnects automatically");
    case pkcs11::TokenState::kStuck:
      return add("TOKEN_STUCK", "a call into the module hangs: " + status.detail,
                 "check the token's service; the agent restarts if this persists");
    case pkcs11::TokenState::kPinRefused:
      return add("PIN_REFUSED", "the token refused the PIN; the agent does not retry it",
                 "put the correct PIN into the source of token.pin; a changed PIN is tried once");
    case pkcs11::TokenState::kPinLocked:
      const auto& hint = token.profile().unlock_hint;
      return add("PIN_LOCKED", "the token's PIN is locked",
                 hint.empty() ? "unlock it with the token's own tool" : hint);
  }
}

void diagnose_keys(State& state, wire::DoctorReply& reply) {
  auto& keys = state.services.keys;
  // A lost key that has been destroyed since is not reported.
  const auto destroyed = [&](const std::string& kid) {
    return keys.find(kid).state == KeyState::kDestroyed;
  };
  auto lost = state.lost_keys.all();
  for (const auto& finding : keys.findings()) {
    lost.erase(finding.kid);
    const auto judged = judge(finding.kind);
    *reply.add_findings() = diagnosis(judged.severity, judged.code, finding.kid, finding.subject,
                                      finding.text, finding.cure);
  }
  for (const auto& [kid, text] : lost) {
    if (destroyed(kid)) continue;
    *reply.add_findings() = diagnosis(
        "error", "KEY_LOST", kid, keys.find(kid).name.text(), text,
        "the agent searches for the key again within five minutes; run keyagent doctor then");
  }
}

// A rekey that waits for a person, or for a token or peer that does not come.
void diagnose_rekeys(const Services& services, wire::DoctorReply& reply) {
  for (const auto& progress : services.rekeys.progress()) {
    const auto& rekey = progress.rekey;
    const std::string name = rekey.name.text();
    if (is_done(rekey.step)) continue;
    if (progress.failures > 0) {
      *reply.add_findings() = diagnosis(
          "warning", "UNFINISHED", rekey.old_kid.text(), name,
          "its rekey is at step " + std::string(name_of(rekey.step)) + " after " +
              std::to_string(progress.failures) + " attempts: " + progress.waits_for,
          is_before_switch(rekey.step)
              ? "it is retried automatically; to abort it: keyagent rekey " + name + " --abort"
              : "it is retried automatically");
    } else if (rekey.step == keys::RekeyStep::kDraining && rekey.drained >= rekey.drain) {
      *reply.add_findings() =
          diagnosis("info", "UNFINISHED", rekey.old_kid.text(), name,
                    "its previous generation is kept and waits for " + progress.waits_for, "");
    }
  }
}

// Keys whose time has come, and names that no active key answers to.
void diagnose_lives(const Services& services, wire::DoctorReply& reply) {
  const auto all = services.keys.list();
  for (const auto& due : keys::due(all, services.keys.last_used(), services.around.periods(),
                                   believed_time(services))) {
    using Kind = keys::Due::Kind;
    const bool warned = due.kind == Kind::kWarn && !due.automatic;
    if (due.kind != Kind::kOverdue && due.kind != Kind::kGrace && due.kind != Kind::kExpired &&
        !warned)
      continue;
    *reply.add_findings() =
        diagnosis(due.kind == Kind::kExpired ? "error" : "warning", "KEY_STATE", due.kid.text(),
                  due.name.text(), due.text, "keyagent rekey " + due.name.text());
  }
  for (const auto& key : all) {
    const bool stops = key.state == KeyState::kSuspended || key.state == KeyState::kCompromised;
    if (!stops || services.keys.find(key.name.text()).kid != key.kid) continue;
    const bool resumes = key.state == KeyState::kSuspended;
    if (resumes && key.reason.starts_with(keys::kWrongSignature)) {
      *reply.add_findings() = diagnosis(
          "error", "INTEGRITY", key.kid.text(), key.name.text(),
          "the key is suspended: " + key.reason,
          "diagnose the token (its log, hardware, keyagent token probe); when it signs correctly: "
          "keyagent key resume " +
              key.name.text() +
              " (the key is tested first); if the key's signatures leaked: keyagent rekey " +
              key.name.text());
      continue;
    }
    *reply.add_findings() =
        diagnosis("warning", "KEY_STATE", key.kid.text(), key.name.text(),
                  "the key is " + std::string(name_of(key.state)) + " (" + key.reason +
                      ") and cannot be used",
                  (resumes ? "keyagent key resume " : "keyagent rekey ") + key.name.text());
  }
}

// Attestation keys that still have the purpose `sign`, which signs anything (RELIABILITY 144).
void diagnose_untyped(const Services& services, wire::DoctorReply& reply) {
  for (const auto& key : services.keys.list()) {
    if (key.state != KeyState::kActive && key.state != KeyState::kSuspended) continue;
    const auto used =
        key.purpose == Purpose::kSign ? services.keys.vouched_as(key.kid) : std::nullopt;
    if (!used && !key.narrowed) continue;
    const std::string& name = key.name.text();
    const std::string purpose(name_of(used ? *used : key.purpose));
    *reply.add_findings() =
        diagnosis("warning", "CONFIGURATION", key.kid.text(), name,
                  used ? "it is a sign key and is used as a key for " + purpose +
                             ": any user who may sign with it can forge its statements"
                       : "it was created as a sign key; its name restricts it to the purpose " +
                             purpose + ", which the ledger does not record yet",
                  "keyagent key retype " + name + " --purpose " + purpose);
  }
}

// Certificates that end, and keys that were rekeyed and have none yet.
void diagnose_certificates(const State& state, wire::DoctorReply& reply) {
  const CertificateWatch watch(state);
  for (const auto& key : state.services.keys.list()) {
    const auto seen = watch.look(key);
    if (seen.text.empty()) continue;
    const std::string& name = key.name.text();
    *reply.add_findings() = diagnosis(
        seen.ended ? "error" : "warning", "CONFIGURATION", key.kid.text(), name, seen.text,
        "keyagent key csr " + name + " …, have it signed, then: keyagent key certificate install " +
            name + " FILE");
  }
}

// Who is paused for failed envelopes, and keys for which several are.
void diagnose_pauses(State& state, wire::DoctorReply& reply) {
  const auto& clock = state.services.clock;
  const auto when = [&](SteadyTime until) {
    return rfc3339(clock.now() +
                   std::chrono::duration_cast<WallTime::duration>(until - clock.now_steady()));
  };
  for (const auto& pause : state.budget.pauses()) {
    *reply.add_findings() = diagnosis(
        "warning", "KEY_STATE", pause.kid, state.services.keys.find(pause.kid).name.text(),
        pause.caller + " cannot open envelopes with it until " + when(pause.until) + ": " +
            std::to_string(pause.failures) +
            " of its envelopes failed; other callers are not affected",
        "find the cause of the damaged envelopes, then: keyagent reload");
  }
  for (const auto& [kid, until] : state.budget.strained()) {
    *reply.add_findings() = diagnosis(
        "error", "KEY_STATE", kid, state.services.keys.find(kid).name.text(),
        "several callers sent failing envelopes, which may be a padding-oracle attack; until " +
            when(until) + " each caller is paused after a few",
        "find the senders (keyagent audit tail), then: keyagent reload");
  }
}

void diagnose_use(State& state, wire::DoctorReply& reply) {
  if (const auto fault = state.services.audit.fault(); !fault.empty()) {
    *reply.add_findings() =
        diagnosis("error", "INTERNAL", "", state.services.audit_folder.string(), fault,
                  "make room, or make the folder writable: the agent resumes without a restart; a "
                  "disk that failed also needs one");
  }
}

// The gravest: authenticity before token before state before configuration.
std::uint32_t exit_code_of(const wire::DoctorReply& reply) {
  const auto grave = [](int code) { return code == 2 ? 1 : code == 5 ? 4 : code; };
  int worst = 0;
  for (const auto& finding : reply.findings()) {
    if (finding.severity() != "error") continue;
    const int code = exit_code(code_of_name(finding.code()));
    if (grave(code) > grave(worst)) worst = code;
  }
  return static_cast<std::uint32_t>(worst);
}

}  // namespace

void run_doctor(Call& call) {
  auto& reply = *call.response.mutable_doctor();
  diagnose_token(call.state.services, reply);
  diagnose_keys(call.state, reply);
  diagnose_rekeys(call.state.services, reply);
  diagnose_lives(call.state.services, reply);
  diagnose_untyped(call.state.services, reply);
  diagnose_certificates(call.state, reply);
  diagnose_use(call.state, reply);
  diagnose_pauses(call.state, reply);
  for (auto& finding : call.state.services.around.diagnose())
    *reply.add_findings() = std::move(finding);
  reply.set_exit_code(exit_code_of(reply));
}

}  // namespace keyagent::gate
