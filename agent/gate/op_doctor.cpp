// SPDX-License-Identifier: Apache-2.0
// Diagnoses: the problem, the key, and the fix.

#include <string>

#include "agent/gate/operation.h"
#include "agent/wire/diagnosis.h"

namespace keyagent::gate {
namespace {

void diagnose_token(const Services& services, wire::DoctorReply& reply) {
  auto& token = services.vault.token();
  const auto status = token.status();
  const auto& fault_hint = token.profile().fault_hint;
  const auto add = [&](const FindingKind& kind, const std::string& text, const std::string& hint) {
    *reply.add_findings() = wire::make_diagnosis(kind, text, {{"hint", hint}}, status.label);
  };
  switch (status.state) {
    case pkcs11::TokenState::kUp:
      return;
    case pkcs11::TokenState::kAbsent:
      return add(finding_kind("token-absent"), "the token is absent: " + status.detail,
                 fault_hint.empty() ? "" : "; " + fault_hint);
    case pkcs11::TokenState::kDown:
      return add(finding_kind("token-fault"), "the token responds with errors: " + status.detail,
                 fault_hint.empty() ? "check the token and its service" : fault_hint);
    case pkcs11::TokenState::kStuck:
      return add(finding_kind("token-stuck"), "a call into the module hangs: " + status.detail, "");
    case pkcs11::TokenState::kPinRefused:
      *reply.add_findings() = wire::make_diagnosis(
          finding_kind("pin-refused"), "the agent does not log in: " + status.detail,
          {{"file", token.refused_pin_file().string()}}, status.label);
      return;
    case pkcs11::TokenState::kPinLocked:
      const auto& hint = token.profile().unlock_hint;
      return add(finding_kind("pin-locked"), "the token's PIN is locked",
                 hint.empty() ? "unlock it with the token's own tool" : hint);
  }
}

void diagnose_keys(State& state, wire::DoctorReply& reply) {
  auto& keys = state.services.keys;
  // A lost key that has been destroyed since is not reported.
  const auto destroyed = [&](const std::string& kid) {
    return keys.find(kid).state == KeyState::kDestroyed;
  };
  auto lost = state.lost_keys.all(keys.reconciliations());
  for (const auto& finding : keys.findings()) {
    lost.erase(finding.kid);
    auto& out = *reply.add_findings();
    out = wire::make_diagnosis(*finding.what, finding.text, {}, finding.subject, finding.kid);
    out.set_cure(finding.cure);
    out.mutable_commands()->Assign(finding.commands.begin(), finding.commands.end());
    if (finding.kind != keys::Finding::Kind::kKeyLost || finding.kid.empty()) continue;
    if (const auto sealed = keys.sealed_count(Kid(finding.kid)); sealed > 0)
      out.set_text(finding.text + "; " + std::to_string(sealed) +
                   " sealed envelopes that name it cannot be opened without it");
  }
  for (const auto& [kid, text] : lost) {
    if (destroyed(kid)) continue;
    *reply.add_findings() =
        wire::make_diagnosis(finding_kind("key-missed"), text, {}, keys.find(kid).name.text(), kid);
  }
}

// The keys of the link; without one, empty.
wire::Link link_of(const Services& services) {
  wire::Link link;
  try {
    services.link.describe(link);
  } catch (const Error& error) {
    if (error.code() != Code::kUnsupported) throw;
  }
  return link;
}

bool is_of_link(const wire::Link& link, const std::string& name) {
  return !link.url().empty() && (name == link.auth_key() || name == link.transport_key());
}

// A rekey that waits for a person, or for a token or peer that does not come.
void diagnose_rekeys(const Services& services, wire::DoctorReply& reply) {
  const auto link = link_of(services);
  for (const auto& progress : services.rekeys.progress()) {
    const auto& rekey = progress.rekey;
    const std::string name = rekey.name.text();
    const std::string kid = rekey.old_kid.text();
    if (is_done(rekey.step)) continue;
    // What waits for the instance, which a revoked key cannot convince: the key's own finding.
    if (is_of_link(link, name) && services.keys.find(kid).state == KeyState::kCompromised &&
        is_before_switch(rekey.step))
      continue;
    if (progress.failures > 0) {
      const bool before = is_before_switch(rekey.step);
      *reply.add_findings() = wire::make_diagnosis(
          before ? finding_kind("rekey-waits") : finding_kind("rekey-unfinished"),
          "its rekey is at step " + std::string(name_of(rekey.step)) + " after " +
              std::to_string(progress.failures) + " attempts: " + progress.waits_for,
          {{"name", name}}, name, kid);
    } else if (rekey.step == keys::RekeyStep::kDraining && rekey.drained >= rekey.drain) {
      *reply.add_findings() = wire::make_diagnosis(
          finding_kind("generation-kept"),
          "its previous generation is kept and waits for " + progress.waits_for, {}, name, kid);
    }
  }
}

const FindingKind* pinned_kind(const Services& services, const keys::KeyRecord& key) {
  const auto vouched =
      key.purpose == Purpose::kSign ? services.keys.vouched_as(key.kid) : std::nullopt;
  const Purpose purpose = vouched.value_or(key.purpose);
  if (purpose == Purpose::kCa) return &finding_kind("pinned-ca");
  if (purpose == Purpose::kConfirm) return &finding_kind("pinned-confirm");
  return nullptr;
}

void diagnose_periods(const Services& services, const std::vector<keys::KeyRecord>& all,
                      wire::DoctorReply& reply) {
  for (const auto& due : keys::due(all, services.keys.last_used(), services.around.periods(),
                                   believed_time(services))) {
    using Kind = keys::Due::Kind;
    const bool warned = due.kind == Kind::kWarn && !due.automatic;
    if (due.kind != Kind::kOverdue && due.kind != Kind::kGrace && due.kind != Kind::kExpired &&
        !warned)
      continue;
    const FindingKind* kind = pinned_kind(services, services.keys.find(due.kid.text()));
    if (kind == nullptr)
      kind = warned                       ? &finding_kind("period-ends")
             : due.kind == Kind::kExpired ? &finding_kind("period-expired")
                                          : &finding_kind("period-over");
    *reply.add_findings() = wire::make_diagnosis(*kind, due.text, {{"name", due.name.text()}},
                                                 due.name.text(), due.kid.text());
  }
}

const FindingKind& kind_of_stopped(const Services& services, const wire::Link& link,
                                   const keys::KeyRecord& key) {
  if (key.state == KeyState::kSuspended) {
    return key.reason.starts_with(keys::kWrongSignature) ? finding_kind("wrong-signature")
                                                         : finding_kind("key-suspended");
  }
  if (const auto* pinned = pinned_kind(services, key)) return *pinned;
  return is_of_link(link, key.name.text()) ? finding_kind("link-key-revoked")
                                           : finding_kind("key-revoked");
}

// Keys whose time has come, and names that no active key answers to.
void diagnose_lives(const Services& services, wire::DoctorReply& reply) {
  const auto all = services.keys.list();
  diagnose_periods(services, all, reply);
  const auto link = link_of(services);
  for (const auto& key : all) {
    const bool stops = key.state == KeyState::kSuspended || key.state == KeyState::kCompromised;
    if (!stops || services.keys.find(key.name.text()).kid != key.kid) continue;
    const auto& kind = kind_of_stopped(services, link, key);
    const std::string text = kind.code == "INTEGRITY"
                                 ? "the key is suspended: " + key.reason
                                 : "the key is " + std::string(name_of(key.state)) + " (" +
                                       key.reason + ") and cannot be used";
    *reply.add_findings() = wire::make_diagnosis(
        kind, text, {{"name", key.name.text()}, {"agent", link.agent()}, {"url", link.url()}},
        key.name.text(), key.kid.text());
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
    *reply.add_findings() = wire::make_diagnosis(
        finding_kind("key-untyped"),
        used ? "it is a sign key and is used as a key for " + purpose +
                   ": any user who may sign with it can forge its statements"
             : "it was created as a sign key; its name restricts it to the purpose " + purpose +
                   ", which the ledger does not record yet",
        {{"name", name}, {"purpose", purpose}}, name, key.kid.text());
  }
}

// Certificates that end, and keys that were rekeyed and have none yet.
void diagnose_certificates(const State& state, wire::DoctorReply& reply) {
  const CertificateWatch watch(state);
  for (const auto& key : state.services.keys.list()) {
    const auto seen = watch.look(key);
    if (seen.text.empty()) continue;
    const std::string& name = key.name.text();
    *reply.add_findings() = wire::make_diagnosis(
        seen.ended ? finding_kind("certificate-ended") : finding_kind("certificate-due"), seen.text,
        {{"name", name}}, name, key.kid.text());
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
    *reply.add_findings() =
        wire::make_diagnosis(finding_kind("caller-paused"),
                             pause.caller + " cannot open envelopes with it until " +
                                 when(pause.until) + ": " + std::to_string(pause.failures) +
                                 " of its envelopes failed; other callers are not affected",
                             {}, state.services.keys.find(pause.kid).name.text(), pause.kid);
  }
  for (const auto& [kid, until] : state.budget.strained()) {
    *reply.add_findings() = wire::make_diagnosis(
        finding_kind("key-strained"),
        "several callers sent failing envelopes, which may be a padding-oracle attack; until " +
            when(until) + " each caller is paused after a few",
        {}, state.services.keys.find(kid).name.text(), kid);
  }
}

void diagnose_use(State& state, wire::DoctorReply& reply) {
  if (const auto fault = state.services.audit.fault(); !fault.empty()) {
    *reply.add_findings() = wire::make_diagnosis(finding_kind("audit-unwritable"), fault, {},
                                                 state.services.audit_folder.string());
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
