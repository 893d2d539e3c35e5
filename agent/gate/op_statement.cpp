// SPDX-License-Identifier: Apache-2.0
// Statements signed by attestation keys: the agent builds certificates and lists itself, and parses
// texts before it signs them (RELIABILITY 144).

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/statement.h"
#include "agent/gate/issuing.h"
#include "agent/gate/operation.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/pki/issuer.h"

namespace keyagent::gate {
namespace {

using wire::SignStatementRequest;

// A sign key is accepted too, because it may sign anything anyway; doctor reports it until it is
// retyped.
void require_purpose(Call& call, const keys::KeyRecord& key, Purpose wanted) {
  if (key.purpose == wanted) return;
  if (key.purpose == Purpose::kSign)
    return call.state.untyped.note(call.state.services.keys, key, wanted);
  throw Error(Code::kDenied,
              "key " + key.name.text() + " is for " + std::string(name_of(key.purpose)) +
                  " and does not sign statements of a key for " + std::string(name_of(wanted)),
              key.kid.text());
}

// RS256 where the key is RSA: PSS in certificates is still refused by some.
pki::RequestSigner signer_of(KeyOps& ops, const keys::KeyRecord& key) {
  const auto algorithm =
      is_rsa(key.algorithm) ? SignatureAlgorithm::kRs256 : default_signature(key.algorithm).value();
  return {openssl::algorithm_identifier(algorithm), [&ops, &key, algorithm](ByteView message) {
            const Bytes signature = ops.sign(key.kid, algorithm, signing_input(algorithm, message));
            return ec_field_size(key.algorithm) > 0 ? openssl::ecdsa_der(signature) : signature;
          }};
}

Bytes authority_of(const keys::KeyRecord& key, const std::string& der) {
  if (!pki::is_own_authority(as_bytes(der), key.spki))
    throw Error(Code::kDenied,
                "not certified: the issuer is not a CA certificate that key " + key.name.text() +
                    " signed for itself",
                key.kid.text());
  return {der.begin(), der.end()};
}

// A server's key must be in this token: no server name is certified for a key in a file.
void require_own_server_key(const Call& call, const pki::Certified& certified) {
  for (const auto& record : call.state.services.keys.list()) {
    const bool in_use = record.state == KeyState::kActive || record.state == KeyState::kStaged;
    if (record.purpose == Purpose::kAuth && in_use && record.spki == certified.spki) return;
  }
  throw Error(
      Code::kDenied,
      "not certified: a server certificate must be for an auth key of this agent's own token");
}

Bytes make_certificate(Call& call, const keys::KeyRecord& key, const pki::RequestSigner& signer,
                       const IssuingRules& rules) {
  const auto& asked = call.request.sign_statement().certificate();
  const Bytes authority = authority_of(key, asked.authority());
  const auto certified = check_certificate(asked, rules, call.state.services.clock.now());
  if (certified.use == pki::Use::kServer) require_own_server_key(call, certified);
  if (certified.spki == key.spki)
    throw Error(Code::kDenied, "not certified: a CA key cannot be the key of a client or server",
                key.kid.text());
  call.detail = "certificate, " + asked.use() + " " + certified.alternative_names.front() +
                ", serial " + certified.serial + ", until " + rfc3339(certified.validity.not_after);
  return pki::issue(authority, certified, signer);
}

Bytes make_list(Call& call, const keys::KeyRecord& key, const pki::RequestSigner& signer,
                const IssuingRules& rules) {
  const auto& asked = call.request.sign_statement().revocation_list();
  const Bytes authority = authority_of(key, asked.authority());
  auto list = check_list(asked, rules, call.state.services.clock.now());
  const auto caller = call.principal.text();
  const ListDrafts::List which{key.kid.text(), asked.number()};
  if (asked.more()) {
    call.detail = "a part of a revocation list, " + std::to_string(list.revoked.size());
    call.state.lists.add(caller, which, std::move(list.revoked));
    return {};
  }
  list.revoked = call.state.lists.finish(caller, which, std::move(list.revoked), asked.total());
  call.detail = "revocation list of " + std::to_string(list.revoked.size()) + ", until " +
                rfc3339(list.validity.not_after);
  return pki::make_crl(authority, list.revoked, asked.number(), list.validity, signer);
}

Bytes make_ca_certificate(Call& call, const keys::KeyRecord& key,
                          const pki::RequestSigner& signer) {
  const auto& asked = call.request.sign_statement().ca_certificate();
  const auto validity = check_ca_certificate(asked, call.state.services.clock.now());
  call.detail = "CA certificate of " + asked.subject();
  return pki::make_authority(key.spki, asked.subject(), validity, signer);
}

std::string make_text(Call& call, const keys::KeyRecord& key) {
  const auto& asked = call.request.sign_statement().text();
  const auto statement = envelope::statement_of_type(asked.type());
  if (!statement)
    throw Error(Code::kDenied, "the statement is not signed: its type is unknown to this agent",
                key.kid.text());
  require_purpose(call, key, envelope::signer_of(*statement));
  const auto payload = as_bytes(asked.payload());
  envelope::require_statement(*statement, payload, key.kid, call.state.services.clock.now());
  call.detail = asked.type();
  return envelope::sign_jws(call.state.services.keys.ops(), info_of(key),
                            default_signature(key.algorithm).value(), payload, asked.type());
}

void sign_statement(Call& call, const keys::KeyRecord& key) {
  const auto& asked = call.request.sign_statement();
  auto& reply = *call.response.mutable_sign_statement();
  reply.set_kid(key.kid.text());
  if (asked.statement_case() == SignStatementRequest::kText)
    return reply.set_jws(make_text(call, key));
  require_purpose(call, key, Purpose::kCa);
  auto& services = call.state.services;
  const auto rules = services.around.issuing();
  const auto signer = signer_of(services.keys.ops(), key);
  Bytes der;
  switch (asked.statement_case()) {
    case SignStatementRequest::kCaCertificate:
      der = make_ca_certificate(call, key, signer);
      break;
    case SignStatementRequest::kCertificate:
      der = make_certificate(call, key, signer, rules);
      break;
    case SignStatementRequest::kRevocationList:
      der = make_list(call, key, signer, rules);
      break;
    default:
      throw Error(Code::kDenied, "this agent does not support this statement: update it");
  }
  reply.set_der(der.data(), der.size());
}

}  // namespace

void run_sign_statement(Call& call) {
  with_generation_in_force(call, [&](const keys::KeyRecord& key) { sign_statement(call, key); });
}

void run_retype(Call& call) {
  const auto& request = call.request.key_retype();
  const auto to = purpose_of(request.purpose());
  if (!to)
    throw Error(Code::kUsage, "unknown purpose: '" + escape_controls(request.purpose()) +
                                  "': identity, ca or confirm");
  const auto before = call.key->purpose;
  auto& reply = *call.response.mutable_key_retype();
  const std::string reason = "retyped to " + std::string(name_of(*to));
  reply.set_changed(
      call.state.services.keys.retype(call.key->name, *to, {reason, call.principal.text()}));
  call.key = call.state.services.keys.find(call.key->name.text());
  call.detail = reply.changed()
                    ? "from " + std::string(name_of(before == *to ? Purpose::kSign : before)) +
                          " to " + std::string(name_of(*to))
                    : "it was " + std::string(name_of(*to)) + " already";
  describe_key(*call.key, *reply.mutable_key());
}

}  // namespace keyagent::gate
