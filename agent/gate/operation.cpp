// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/operation.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/gate/request_check.h"

namespace keyagent::gate {
namespace {

using policy::Action;
using wire::Request;

bool always(const Request&) {
  return true;
}
bool never(const Request&) {
  return false;
}

void no_key(Call&) {}
void resolve_show(Call& call) {
  resolve_key(call, call.request.key_show().key());
}
void resolve_destroy(Call& call) {
  resolve_key(call, call.request.key_destroy().key());
}
void resolve_sign(Call& call) {
  resolve_key(call, call.request.sign().key());
}
void resolve_sign_statement(Call& call) {
  resolve_key(call, call.request.sign_statement().key());
}
void resolve_retype(Call& call) {
  resolve_key(call, call.request.key_retype().key());
}
void resolve_decrypt(Call& call) {
  resolve_key(call, call.request.decrypt().key());
}
void resolve_agree(Call& call) {
  resolve_key(call, call.request.agree().key());
}
void resolve_seal(Call& call) {
  resolve_key(call, call.request.seal().key());
}

void resolve_state(Call& call) {
  resolve_key(call, call.request.key_state().key());
}
void resolve_rekey(Call& call) {
  resolve_key(call, call.request.rekey().name());
}
void resolve_rekey_abort(Call& call) {
  resolve_key(call, call.request.rekey_abort().name());
}

void resolve_certificate_install(Call& call) {
  resolve_key(call, call.request.certificate_install().key());
}
void resolve_certificate_show(Call& call) {
  resolve_key(call, call.request.certificate_show().key());
}
void resolve_certificate_remove(Call& call) {
  resolve_key(call, call.request.certificate_remove().key());
}

void resolve_exchange_offer(Call& call) {
  resolve_key(call, call.request.exchange_offer().exchange_key());
}

// An RSA-4096 pair takes a token up to a minute: creation is patient.
const Operation kOperations[] = {
    {Request::kOpen, "open", Action::kOpen, Record::kUse, true, always, resolve_open, run_open},
    {Request::kSeal, "seal", Action::kSeal, Record::kUse, true, always, resolve_seal, run_seal},
    {Request::kSign, "sign", Action::kSign, Record::kUse, true, always, resolve_sign, run_sign},
    {Request::kKeyList, "key.list", Action::kPublic, Record::kNever, false, never, no_key,
     run_list},
    {Request::kKeyShow, "key.show", Action::kPublic, Record::kNever, true, never, resolve_show,
     run_show},
    {Request::kKeyCreate, "key.create", Action::kCreate, Record::kChange, false, always,
     resolve_create, run_create, 24},
    {Request::kKeyDestroy, "key.destroy", Action::kDestroy, Record::kChange, true, always,
     resolve_destroy, run_destroy, 6},
    {Request::kStatus, "status", Action::kStatus, Record::kNever, false, never, no_key, run_status},
    {Request::kWhy, "why", std::nullopt, Record::kNever, false, never, no_key, run_why},
    {Request::kAuditTail, "audit.tail", Action::kAudit, Record::kUse, false, never, no_key,
     run_audit_tail},
    {Request::kAuditVerify, "audit.verify", Action::kAudit, Record::kUse, false, never, no_key,
     run_audit_verify},
    {Request::kDoctor, "doctor", Action::kAdmin, Record::kNever, false, never, no_key, run_doctor},
    {Request::kReload, "reload", Action::kAdmin, Record::kNever, false, never, no_key, run_reload},
    {Request::kKeyState, "key.state", Action::kSuspend, Record::kChange, true, always,
     resolve_state, run_key_state, 6},
    {Request::kRekey, "rekey", Action::kRekey, Record::kChange, true, always, resolve_rekey,
     run_rekey, 6},
    {Request::kRekeyStatus, "rekey.status", Action::kStatus, Record::kNever, false, never, no_key,
     run_rekey_status},
    {Request::kRekeyAbort, "rekey.abort", Action::kRekey, Record::kChange, true, always,
     resolve_rekey_abort, run_rekey_abort, 6},
    {Request::kCensusReport, "census.report", Action::kRekey, Record::kChange, false, always,
     no_key, run_census_report, 6},
    {Request::kCensusList, "census.list", Action::kStatus, Record::kNever, false, never, no_key,
     run_census_list},
    {Request::kReseal, "reseal", Action::kReseal, Record::kUse, true, always, resolve_reseal,
     run_reseal},
    {Request::kDecrypt, "decrypt", Action::kDecrypt, Record::kUse, true, always, resolve_decrypt,
     run_decrypt},
    {Request::kAgree, "agree", Action::kAgree, Record::kUse, true, always, resolve_agree,
     run_agree},
    {Request::kCertificateInstall, "certificate.install", Action::kAdmin, Record::kChange, true,
     always, resolve_certificate_install, run_certificate_install, 6},
    {Request::kCertificateShow, "certificate.show", Action::kPublic, Record::kNever, true, never,
     resolve_certificate_show, run_certificate_show},
    {Request::kCertificateRemove, "certificate.remove", Action::kAdmin, Record::kChange, true,
     always, resolve_certificate_remove, run_certificate_remove, 6},
    {Request::kEnroll, "enroll", Action::kAdmin, Record::kChange, false, never, resolve_enroll,
     run_enroll},
    {Request::kLeave, "leave", Action::kAdmin, Record::kChange, false, never, no_key, run_leave},
    {Request::kLinkStatus, "link.status", Action::kStatus, Record::kNever, false, never, no_key,
     run_link_status},
    {Request::kCredentialGet, "credential.get", Action::kCredential, Record::kUse, false, never,
     resolve_credential, run_credential_get},
    {Request::kCredentialList, "credential.list", Action::kStatus, Record::kNever, false, never,
     no_key, run_credential_list},
    {Request::kTaskTake, "task.take", Action::kWork, Record::kEvent, false, never,
     resolve_task_take, run_task_take},
    {Request::kTaskKeep, "task.keep", Action::kWork, Record::kNever, false, never,
     resolve_task_keep, run_task_keep},
    {Request::kTaskCredential, "task.credential", Action::kWork, Record::kUse, false, never,
     resolve_task_credential, run_task_credential},
    {Request::kTaskEnd, "task.end", Action::kWork, Record::kUse, false, never, resolve_task_end,
     run_task_end},
    {Request::kTaskList, "task.list", Action::kStatus, Record::kNever, false, never, no_key,
     run_task_list},
    {Request::kExchangeOffer, "exchange.offer", Action::kImport, Record::kUse, true, always,
     resolve_exchange_offer, run_exchange_offer},
    {Request::kExchangeExport, "key.export", Action::kExport, Record::kChange, true, always,
     resolve_export, run_export, 6},
    {Request::kExchangeImport, "key.import", Action::kImport, Record::kChange, false, always,
     resolve_import, run_import, 6},
    {Request::kImportTicket, "import.ticket", Action::kImport, Record::kChange, false, always,
     resolve_ticket, run_ticket, 24},
    {Request::kImportOutside, "import.outside", Action::kImport, Record::kChange, false, always,
     resolve_outside, run_outside, 6},
    {Request::kSignStatement, "sign.statement", Action::kSign, Record::kUse, true, always,
     resolve_sign_statement, run_sign_statement},
    {Request::kKeyRetype, "key.retype", Action::kAdmin, Record::kChange, true, always,
     resolve_retype, run_retype, 6},
    {Request::kProve, "prove", std::nullopt, Record::kUse, true, always, resolve_prove, run_prove},
};

// A show that tries to take the key out of the token: its own act (RELIABILITY 149).
const Operation kProveCustody{Request::kKeyShow, "key.prove", Action::kProve,
                              Record::kUse,      true,        always,
                              resolve_show,      run_show};

}  // namespace

const Operation* find_operation(const Request& request) {
  const auto op = request.op_case();
  if (op == Request::kKeyShow && request.key_show().prove()) return &kProveCustody;
  const auto* found = std::find_if(std::begin(kOperations), std::end(kOperations),
                                   [op](const Operation& each) { return each.op == op; });
  return found == std::end(kOperations) ? nullptr : found;
}

void resolve_key(Call& call, const std::string& which) {
  if (which.empty()) throw Error(Code::kUsage, "no key named: give its name or kid");
  check_name("the name of the key", which);
  call.which = call.query.key = which;
  try {
    call.key = call.state.services.keys.find(which);
    call.query.key = call.key->name.text();
    call.query.purpose = policy_purpose(*call.key);
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent) throw;
  }
}

WallTime believed_time(const Services& services) {
  const WallTime believed = services.keys.believed();
  return believed == WallTime{} ? services.clock.now() : believed;
}

std::string policy_purpose(const keys::KeyRecord& record) {
  return std::string(name_of(record.narrowed ? Purpose::kSign : record.purpose));
}

PublicKeyInfo info_of(const keys::KeyRecord& record) {
  return {record.kid,      record.name.text(), record.algorithm,  record.purpose,
          record.envelope, record.spki,        record.accepts_cbc};
}

void describe_key(const keys::KeyRecord& record, wire::Key& key) {
  key.set_kid(record.kid.text());
  key.set_name(record.name.text());
  key.set_generation(static_cast<std::uint32_t>(record.generation));
  key.set_purpose(std::string(name_of(record.purpose)));
  key.set_algorithm(std::string(name_of(record.algorithm)));
  key.set_envelope(std::string(name_of(record.envelope)));
  key.set_state(std::string(name_of(record.state)));
  key.set_cka_id(record.cka_id.hex());
  key.set_spki(record.spki.data(), record.spki.size());
  key.set_created(rfc3339(record.created));
  key.set_changed(rfc3339(record.changed));
  key.set_reason(record.reason);
  key.set_usable(record.usable);
  key.set_finding(record.finding);
  key.set_actor(record.actor);
  key.set_exchangeable(record.exchangeable);
  key.set_origin(record.origin);
  key.set_accepts_cbc(record.accepts_cbc);
  if (record.activated != WallTime{}) key.set_activated(rfc3339(record.activated));
}

KeyDescriber::KeyDescriber(const State& state)
    : keys_(state.services.keys),
      periods_(state.services.around.periods()),
      used_(keys_.last_used()),
      now_(believed_time(state.services)),
      certificates_(state),
      lost_(state.lost_keys.all(keys_.reconciliations())) {
  for (const auto& finding : keys_.findings())
    if (finding.kind == keys::Finding::Kind::kKeyLost) lost_[finding.kid] = finding.text;
}

std::vector<keys::KeyRecord> KeyDescriber::sorted() const {
  auto records = keys_.list();
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
    return a.name == b.name ? a.generation > b.generation : a.name < b.name;
  });
  return records;
}

void KeyDescriber::describe(const keys::KeyRecord& record, wire::Key& key) const {
  describe_key(record, key);
  const auto lost = lost_.find(record.kid.text());
  const bool is_lost = lost != lost_.end() && record.state != KeyState::kDestroyed;
  if (is_lost) {
    key.set_usable(false);
    key.set_finding(lost->second);
  }
  const bool unusable = !key.usable() && record.state != KeyState::kDestroyed;
  key.set_shown(is_lost ? "lost" : unusable ? "unusable" : key.state());
  const auto period = periods_.of(record);
  key.set_period_ms(static_cast<std::uint64_t>(period.active.count()));
  key.set_automatic(period.automatic);
  if (const auto next = keys::next_rekey(record, periods_)) key.set_next_rekey(rfc3339(*next));
  if (const auto end = keys::period_end(record, periods_)) {
    const auto refused = *keys::refused_from(record, periods_);
    key.set_period_end(rfc3339(*end));
    key.set_refused_from(rfc3339(refused));
    key.set_past_period(now_ >= *end);
    key.set_expired(now_ >= refused);
  }
  if (const auto used = used_.find(record.kid); used != used_.end())
    key.set_used(rfc3339(used->second));
  key.set_sealed(keys_.sealed_count(record.kid));
  const auto certificate = certificates_.look(record);
  key.set_certificate_until(certificate.until);
  key.set_certificate_finding(certificate.text);
}

std::optional<Kid> RecipientIndex::find(const keys::KeyStore& keys, const Bytes& key_id) {
  const MutexLock lock(mutex_);
  if (const auto epoch = keys.epoch(); epoch_ != epoch) {
    kids_.clear();
    for (const auto& record : keys.list()) {
      if (record.spki.empty()) continue;
      for (const auto& id : envelope::key_identifiers(record.spki)) kids_[id] = record.kid;
    }
    epoch_ = epoch;
  }
  const auto found = kids_.find(key_id);
  return found == kids_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace keyagent::gate
