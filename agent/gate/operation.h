// SPDX-License-Identifier: Apache-2.0
#pragma once
// The table of operations: what each request needs, who may ask, and who carries it out.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "agent/base/log_limiter.h"
#include "agent/base/mutex.h"
#include "agent/base/rate_budget.h"
#include "agent/gate/failure_budget.h"
#include "agent/gate/gate.h"
#include "agent/gate/list_drafts.h"
#include "agent/gate/lost_keys.h"
#include "agent/gate/status_figures.h"
#include "agent/gate/untyped_keys.h"

namespace keyagent::gate {

// Finds keys by the identifiers that CMS names recipients with (RFC 5280, RFC 7093). Thread-safe;
// computed again when the ledger has changed.
class RecipientIndex {
 public:
  std::optional<Kid> find(const keys::KeyStore& keys, const Bytes& key_id);

 private:
  Mutex mutex_;
  std::optional<std::uint64_t> epoch_ GUARDED_BY(mutex_);
  std::map<Bytes, Kid> kids_ GUARDED_BY(mutex_);
};

// What operations share.
struct State {
  State(const GateOptions& options_in, Services services_in)
      : options(options_in),
        services(std::move(services_in)),
        budget(services.clock, options.failures_per_key_per_day),
        proofs(services.clock, proof_limits(options.proofs_per_minute)),
        lost_keys(services.clock),
        limiter(services.clock) {}
  static RateBudget::Limits proof_limits(std::uint32_t per_minute) {
    return {.burst = per_minute,
            .refill = std::chrono::milliseconds(std::chrono::minutes(1)) / per_minute};
  }
  const GateOptions options;
  const Services services;
  GateCounters counters;
  FailureBudget budget;
  RateBudget proofs;  // attempts to take a key out of the token, by caller and kid
  LostKeys lost_keys;
  LogLimiter limiter;
  RecipientIndex recipients;
  SampledFigures figures;
  UntypedKeys untyped;
  ListDrafts lists{services.clock};
  Mutex verify_mutex;  // one verification of the audit log at a time
};

// One request on its way. Belongs to one thread at a time.
struct Call {
  State& state;
  policy::Principal principal;
  wire::Request request;
  wire::Response response;
  std::shared_ptr<const policy::Policy> policy;  // one snapshot for the whole request
  policy::Query query;
  std::string which;                   // the key as the caller named it; empty: no key concerned
  std::optional<keys::KeyRecord> key;  // absent: no such key, or none concerned
  policy::Decision decision;
  std::string detail;           // added to the audit record of the use or refusal
  bool failed_to_open = false;  // the token refused the bytes: counted, answered at an interval
  SteadyTime started{};
  std::uint32_t retry_after_ms = 0;  // with BUSY; 0: when the queue is shorter

  bool may(policy::Action action, const std::string& key_name, const std::string& purpose) const {
    return policy::decide(*policy, principal, {action, key_name, purpose}).allowed;
  }
};

// How an operation is recorded: not at all; batched for some milliseconds; batched, and only when
// `detail` is set; or synced before it begins and before it is answered.
enum class Record { kNever, kUse, kEvent, kChange };

struct Operation {
  wire::Request::OpCase op;
  const char* name;                      // in the audit log
  std::optional<policy::Action> action;  // nullopt: anyone may ask
  Record record = Record::kNever;
  bool names_key = false;  // the key must exist
  bool (*needs_token)(const wire::Request&) = nullptr;
  void (*resolve)(Call&) = nullptr;  // fills query, which, key; may throw Error
  void (*run)(Call&) = nullptr;      // fills response; throws Error
  int patience = 1;                  // factor for deadlines (key generation takes longer)
};

// nullptr: no such operation.
const Operation* find_operation(const wire::Request& request);

// Fills `call.which`, `call.key` and the query's key; an unknown key leaves `call.key` empty.
void resolve_key(Call& call, const std::string& which);
PublicKeyInfo info_of(const keys::KeyRecord& record);
// By which keys expire: not the clock's time while that is not trusted.
WallTime believed_time(const Services& services);
// What rules call the key's purpose: of a key that is held to another one by its name, the one that
// it was made with.
std::string policy_purpose(const keys::KeyRecord& record);
void describe_key(const keys::KeyRecord& record, wire::Key& key);

// Certificate status of keys, read once for a whole list.
class CertificateWatch {
 public:
  explicit CertificateWatch(const State& state);
  struct Seen {
    std::string until;   // RFC 3339; empty: it has none
    std::string text;    // the problem; empty: none
    bool ended = false;  // clients refuse it now
  };
  Seen look(const keys::KeyRecord& record) const;

 private:
  const std::shared_ptr<const std::map<Kid, keys::CertificateRecord>> all_;
  const WallTime now_;
  std::map<KeyName, int> certified_;  // name → the newest generation that has a certificate
};

// Describes keys with status that depends on time and use, read once for a whole list.
class KeyDescriber {
 public:
  explicit KeyDescriber(const State& state);
  // Those of the ledger, by name, the newest generation first.
  std::vector<keys::KeyRecord> sorted() const;
  void describe(const keys::KeyRecord& record, wire::Key& key) const;

 private:
  const keys::KeyStore& keys_;
  const keys::Periods periods_;
  const std::map<Kid, WallTime> used_;
  const WallTime now_;
  const CertificateWatch certificates_;
  std::map<std::string, std::string> lost_;  // kid → what found it missing
};

// Runs `work` with the key; once more with the generation that is active by then, when the caller
// named a key and a rekey switched it while the request waited: to that caller there is no gap.
template <class Work>
void with_generation_in_force(Call& call, Work work) {
  try {
    return work(*call.key);
  } catch (const Error& error) {
    if (error.code() != Code::kKeyState && error.code() != Code::kKeyNotPresent) throw;
    auto now = call.state.services.keys.find(call.which);
    if (now.kid == call.key->kid) throw;
    call.key = std::move(now);
  }
  work(*call.key);
}

// op_*.cpp
void resolve_open(Call& call);
void run_open(Call& call);
void run_seal(Call& call);
void run_sign(Call& call);
void run_decrypt(Call& call);
void run_agree(Call& call);
void resolve_create(Call& call);
void run_list(Call& call);
void run_show(Call& call);
void run_create(Call& call);
void run_destroy(Call& call);
void run_status(Call& call);
void run_why(Call& call);
void run_audit_tail(Call& call);
void run_audit_verify(Call& call);
void run_doctor(Call& call);
void run_reload(Call& call);
void run_key_state(Call& call);
void run_rekey(Call& call);
void run_rekey_status(Call& call);
void run_rekey_abort(Call& call);
void run_census_report(Call& call);
void run_census_list(Call& call);
void resolve_reseal(Call& call);
void run_reseal(Call& call);
void run_certificate_install(Call& call);
void run_certificate_show(Call& call);
void run_certificate_remove(Call& call);
void resolve_enroll(Call& call);
void run_enroll(Call& call);
void run_leave(Call& call);
void run_link_status(Call& call);
void resolve_credential(Call& call);
void run_credential_get(Call& call);
void run_credential_list(Call& call);
void resolve_task_take(Call& call);
void run_task_take(Call& call);
void resolve_task_keep(Call& call);
void run_task_keep(Call& call);
void resolve_task_credential(Call& call);
void run_task_credential(Call& call);
void resolve_task_end(Call& call);
void run_task_end(Call& call);
void run_task_list(Call& call);
void run_exchange_offer(Call& call);
void resolve_export(Call& call);
void run_export(Call& call);
void resolve_import(Call& call);
void run_import(Call& call);
void resolve_ticket(Call& call);
void run_ticket(Call& call);
void resolve_outside(Call& call);
void run_outside(Call& call);
void run_sign_statement(Call& call);
void run_retype(Call& call);
void resolve_prove(Call& call);
void run_prove(Call& call);

// The signature that `key` makes of a message which the caller has checked. Fills all of `reply`.
void sign_message(KeyOps& ops, const keys::KeyRecord& key, const wire::SignRequest& request,
                  wire::SignReply& reply);

// What KeyOps::sign() takes of a message: its digest, or for EdDSA the message.
Bytes signing_input(SignatureAlgorithm algorithm, ByteView message);

// What op_open.cpp, op_decrypt.cpp and op_census.cpp share. Which key an envelope is for, for
// callers who may do `call.query.action` with some key.
void resolve_envelope(Call& call, const std::string& envelope, const std::string& given);
// Throws Error{kKeyState} while the caller is paused with this key for too many failed envelopes.
void require_budget(const Call& call);

}  // namespace keyagent::gate
