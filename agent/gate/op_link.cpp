// SPDX-License-Identifier: Apache-2.0
// The link to the instance: enroll and leave, credentials, and what proves a key to it.

#include "agent/base/encoding.h"
#include "agent/envelope/challenge.h"
#include "agent/gate/operation.h"
#include "agent/pki/to_be_signed.h"

namespace keyagent::gate {
namespace {

[[noreturn]] void refuse_challenge(const std::string& why, const std::string& kid) {
  throw Error(Code::kInput, "the challenge cannot be answered: " + why, kid);
}

void answer_challenge(Call& call, const keys::KeyRecord& key) {
  const std::string& challenge = call.request.prove().challenge();
  if (key.purpose != Purpose::kTransport)
    throw Error(Code::kUsage, "only a transport key can answer a challenge", key.kid.text());
  if (envelope::inspect(as_bytes(challenge)).kid != key.kid.text())
    refuse_challenge("it is for another key", key.kid.text());
  require_budget(call);
  const SecretBytes opened =
      envelope::open(call.state.services.keys.proving_ops(), info_of(key), as_bytes(challenge));
  const auto secret = envelope::secret_of_challenge(opened);
  // It may be a credential that the instance has never seen the inside of (MISSION R4).
  if (!secret) refuse_challenge("the envelope does not contain a challenge", key.kid.text());
  call.detail = "challenge";
  call.response.mutable_prove()->set_proof(secret->data(), secret->size());
}

void sign_request(Call& call, const keys::KeyRecord& key) {
  const std::string& message = call.request.prove().certification_request();
  if (key.purpose != Purpose::kAuth)
    throw Error(Code::kUsage, "only an auth key can sign its certification request",
                key.kid.text());
  if (pki::recognize(as_bytes(message), key.spki) != pki::ToBeSigned::kCertificationRequest)
    throw Error(Code::kUsage, "it is not a certification request for this key", key.kid.text());
  call.detail = std::string(pki::name_of(pki::ToBeSigned::kCertificationRequest));
  wire::SignRequest request;
  request.set_message(message);
  if (is_rsa(key.algorithm)) request.set_algorithm("RS256");
  wire::SignReply reply;
  sign_message(call.state.services.keys.proving_ops(), key, request, reply);
  call.response.mutable_prove()->set_proof(reply.signature());
  call.response.mutable_prove()->set_algorithm(reply.algorithm());
}

}  // namespace

void resolve_enroll(Call& call) {
  call.detail = call.request.enroll().url();
}

void run_enroll(Call& call) {
  auto& reply = *call.response.mutable_enroll();
  call.state.services.link.enroll(call.request.enroll(), reply);
  call.detail = reply.link().state() + " at " + call.request.enroll().url() + " as " +
                reply.link().agent() + ", key " + reply.link().auth_kid();
}

void run_leave(Call& call) {
  call.state.services.link.leave(*call.response.mutable_leave()->mutable_link());
}

void run_link_status(Call& call) {
  call.state.services.link.describe(*call.response.mutable_link_status()->mutable_link());
}

// The name of a credential stands where other actions have the name of a key.
void resolve_credential(Call& call) {
  const std::string& name = call.request.credential_get().name();
  if (name.empty()) throw Error(Code::kUsage, "no credential named");
  call.which = call.query.key = name;
}

// Anyone who runs handlers could not tell its own question from that of a handler: while one runs,
// credentials come with tasks alone.
void run_credential_get(Call& call) {
  if (call.principal.voucher == policy::Principal::Voucher::kKernel &&
      call.state.services.link.runs_tasks(call.principal.uid))
    throw Error(Code::kDenied, "a task handler runs as uid " + std::to_string(call.principal.uid) +
                                   ": it may only get the credential of its task; run handlers as "
                                   "separate users ('user' in worker.yml)");
  auto& reply = *call.response.mutable_credential_get();
  call.state.services.link.credential(call.which, reply);
  const auto& credential = reply.credential();
  call.detail = "credential, version " + std::to_string(credential.version()) + ", opened with " +
                credential.kid() + (credential.cached() ? ", from the cached copy" : "");
}

void run_credential_list(Call& call) {
  wire::CredentialListReply all;
  call.state.services.link.credentials(all);
  auto& reply = *call.response.mutable_credential_list();
  for (const auto& each : all.credentials()) {
    if (call.may(policy::Action::kCredential, each.name(), {})) *reply.add_credentials() = each;
  }
}

void resolve_prove(Call& call) {
  call.which = call.request.prove().key();
  if (call.principal.voucher != policy::Principal::Voucher::kInternal)
    throw Error(Code::kDenied, "only the agent itself may prove its keys");
  resolve_key(call, call.request.prove().key());
  if (!call.key)
    throw Error(Code::kKeyNotPresent, "KEY_NOT_PRESENT: there is no such key to prove",
                Kid::parse(call.which) ? call.which : "");
}

void run_prove(Call& call) {
  const auto& key = *call.key;
  call.request.prove().challenge().empty() ? sign_request(call, key) : answer_challenge(call, key);
  call.response.mutable_prove()->set_kid(key.kid.text());
}

}  // namespace keyagent::gate
