// SPDX-License-Identifier: Apache-2.0
// The life of keys: list, show, create, suspend, resume, revoke, destroy.

#include <optional>

#include "agent/base/encoding.h"
#include "agent/gate/answers.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

template <class Value>
Value require_name(std::optional<Value> value, const char* what, const std::string& name) {
  if (value) return *value;
  throw Error(Code::kUsage, "unknown " + std::string(what) + ": '" + escape_controls(name) +
                                "' (see keyagent "
                                "key create --help)");
}

void add_fact(wire::KeyShowReply& reply, const char* name, const std::string& value, bool good) {
  auto& fact = *reply.add_custody();
  fact.set_name(name);
  fact.set_value(value);
  fact.set_good(good);
}

void add_attribute(wire::KeyShowReply& reply, const char* name, const std::optional<bool>& value,
                   bool wanted) {
  if (value) add_fact(reply, name, *value ? "true" : "false", *value == wanted);
}

// Each proof is a handful of operations of the token.
void require_proof_budget(Call& call) {
  auto& proofs = call.state.proofs;
  const auto taken = proofs.take(caller_of(call.principal) + " " + call.key->kid.text());
  if (taken) return;
  call.retry_after_ms = static_cast<std::uint32_t>(taken.retry_after.count());
  throw Error(Code::kBusy,
              "key " + call.key->name.text() + " was proved " +
                  std::to_string(proofs.limits().burst) +
                  " times within a minute for this caller: try again in " +
                  std::to_string(taken.retry_after.count() / 1000 + 1) + " s",
              call.key->kid.text());
}

void describe_custody(const pkcs11::Custody& custody, vault::Birth birth,
                      wire::KeyShowReply& reply) {
  const bool here = birth != vault::Birth::kImported;
  const bool leaves = birth == vault::Birth::kExchangeable;
  add_attribute(reply, "CKA_LOCAL", custody.local, here);
  add_attribute(reply, "CKA_SENSITIVE", custody.sensitive, true);
  add_attribute(reply, "CKA_ALWAYS_SENSITIVE", custody.always_sensitive, here);
  add_attribute(reply, "CKA_EXTRACTABLE", custody.extractable, leaves);
  add_attribute(reply, "CKA_NEVER_EXTRACTABLE", custody.never_extractable,
                birth == vault::Birth::kHere);
  const auto attempt = [&](const char* name, bool refused, const std::string& answer) {
    add_fact(reply, name, (refused ? "refused: " : "SUCCEEDED: ") + answer, refused);
  };
  attempt("attempt to read the key out", custody.read_refused, custody.read_answer);
  if (leaves && !custody.wrap_refused) {
    add_fact(reply, "attempt to wrap the key out", "possible: the key is exchangeable", true);
  } else {
    attempt("attempt to wrap the key out", custody.wrap_refused, custody.wrap_answer);
  }
  attempt("attempt to copy it as readable", custody.copy_refused, custody.copy_answer);
  reply.set_holds(leaves ? custody.holds_but_wrapped() : custody.holds());
}

}  // namespace

void run_list(Call& call) {
  auto& reply = *call.response.mutable_key_list();
  const KeyDescriber describer(call.state);
  for (const auto& record : describer.sorted()) {
    if (record.state == KeyState::kDestroyed && !call.request.key_list().all()) continue;
    const std::string purpose = policy_purpose(record);
    if (!call.may(policy::Action::kPublic, record.name.text(), purpose)) continue;
    describer.describe(record, *reply.add_keys());
  }
}

void run_show(Call& call) {
  auto& reply = *call.response.mutable_key_show();
  KeyDescriber(call.state).describe(*call.key, *reply.mutable_key());
  for (const auto& change : call.state.services.keys.history(call.key->kid)) {
    auto& transition = *reply.add_history();
    transition.set_before(std::string(name_of(change.from)));
    transition.set_after(std::string(name_of(change.to)));
    transition.set_at(rfc3339(change.at));
    transition.set_actor(change.actor);
    transition.set_reason(change.reason);
  }
  if (!call.request.key_show().prove()) return;
  if (call.key->state == KeyState::kDestroyed) {
    throw Error(Code::kKeyState, "key " + call.key->name.text() + " is destroyed",
                call.key->kid.text());
  }
  require_proof_budget(call);
  describe_custody(call.state.services.keys.prove_custody(call.key->kid.text()),
                   keys::birth_of(*call.key), reply);
}

void resolve_create(Call& call) {
  const auto& request = call.request.key_create();
  call.which = call.query.key = KeyName(request.name()).text();
  call.query.purpose =
      name_of(require_name(purpose_of(request.purpose()), "purpose", request.purpose()));
}

void run_create(Call& call) {
  const auto& request = call.request.key_create();
  keys::CreateRequest create;
  create.name = KeyName(request.name());
  create.purpose = require_name(purpose_of(request.purpose()), "purpose", request.purpose());
  if (!request.algorithm().empty()) {
    create.algorithm =
        require_name(key_algorithm_of(request.algorithm()), "algorithm", request.algorithm());
  }
  if (!request.envelope().empty()) {
    create.envelope = require_name(envelope_algorithm_of(request.envelope()), "envelope algorithm",
                                   request.envelope());
  }
  create.exchangeable = request.exchangeable();
  create.accepts_cbc = request.accepts_cbc();
  auto result = call.state.services.keys.create(create, {"created", call.principal.text()});
  call.key = result.record;
  auto& reply = *call.response.mutable_key_create();
  describe_key(result.record, *reply.mutable_key());
  reply.set_created(result.created);
}

void run_key_state(Call& call) {
  const auto& request = call.request.key_state();
  const auto to = require_name(key_state_of(request.state()), "state", request.state());
  const auto& key = *call.key;
  if (key.purpose == Purpose::kAudit && to == KeyState::kSuspended) {
    throw Error(
        Code::kDenied,
        "key " + key.name.text() + " signs the audit log's checkpoints and cannot be suspended",
        key.kid.text());
  }
  if (to == KeyState::kCompromised && key.state != to && request.confirm_kid() != key.kid.text()) {
    throw Error(Code::kConfirm,
                "revoking key " + key.name.text() +
                    " is permanent: it is no longer used; confirm with its kid " + key.kid.text(),
                key.kid.text());
  }
  call.key = call.state.services.keys.change_state(key.kid.text(), to,
                                                   {request.reason(), call.principal.text()});
  describe_key(*call.key, *call.response.mutable_key_state()->mutable_key());
}

namespace {

// Destroying a name with several generations requires a kid. The generations are listed only here,
// after the policy check.
void require_one_generation(const Call& call) {
  if (Kid::parse(call.which)) return;
  std::string kids;
  int count = 0;
  for (const auto& record : call.state.services.keys.list()) {
    if (record.name != call.key->name || record.state == KeyState::kDestroyed) continue;
    kids += (count++ == 0 ? "" : ", ") + record.kid.text() + " (" +
            std::string(name_of(record.state)) + ")";
  }
  if (count > 1)
    throw Error(Code::kUsage, "key " + call.key->name.text() + " has " + std::to_string(count) +
                                  " generations; select one by its kid: " + kids);
}

}  // namespace

void run_destroy(Call& call) {
  const auto& request = call.request.key_destroy();
  const auto& key = *call.key;
  require_one_generation(call);
  if (key.purpose == Purpose::kAudit && key.state == KeyState::kActive) {
    throw Error(
        Code::kDenied,
        "key " + key.name.text() + " signs the audit log's checkpoints and cannot be destroyed",
        key.kid.text());
  }
  if (request.confirm_kid() != key.kid.text()) {
    throw Error(Code::kConfirm,
                "destroying key " + key.name.text() +
                    " makes all data sealed to it permanently unreadable; confirm with its kid " +
                    key.kid.text(),
                key.kid.text());
  }
  call.key =
      call.state.services.keys.destroy(key.kid.text(), {request.reason(), call.principal.text()});
  describe_key(*call.key, *call.response.mutable_key_destroy()->mutable_key());
}

}  // namespace keyagent::gate
