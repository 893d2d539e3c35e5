// SPDX-License-Identifier: Apache-2.0
// Transfer of keys: offer, export, import. The policy decides which keys may leave and for which
// identity (kid) of the other side; agent/exchange verifies the bindings.

#include "agent/base/encoding.h"
#include "agent/exchange/exchange.h"
#include "agent/exchange/key_import.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

// Of a public key in DER; for what is none a text that no rule names.
std::string kid_of_spki(const std::string& spki) {
  try {
    return jwk_thumbprint(as_bytes(spki));
  } catch (const Error&) {
    throw Error(Code::kUsage, "an identity must be a public key in DER (SubjectPublicKeyInfo)");
  }
}

Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

exchange::ImportOrder order_of(const wire::ExchangeImportRequest& request) {
  exchange::ImportOrder order;
  order.package = request.package();
  order.request = request.request();
  order.specification = request.specification();
  order.source_spki = bytes_of(request.source_spki());
  order.exchange_key = request.exchange_key();
  order.name = KeyName(request.name());
  return order;
}

// The caller chooses the key that signs: it is a use of that key, like `sign` (RELIABILITY 145).
// The same text for a missing key and for one that the caller may not see.
keys::KeyRecord require_signer(Call& call, const std::string& which) {
  auto& keys = call.state.services.keys;
  policy::Query query{policy::Action::kSign, which, {}};
  std::optional<keys::KeyRecord> key;
  try {
    key = keys.find(which);
    query.key = key->name.text();
    query.purpose = policy_purpose(*key);
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent) throw;
  }
  const std::string shown = escape_controls(which).substr(0, 100);
  call.detail = "signed by " + (key ? key->name.text() + " " + key->kid.text() : shown);
  const auto decision = policy::decide(*call.policy, call.principal, query);
  if (!key && (decision.allowed || call.may(policy::Action::kPublic, which, {})))
    throw Error(Code::kKeyNotPresent, "KEY_NOT_PRESENT name=" + shown +
                                          ": this agent has no such key (see keyagent key list)");
  if (!decision.allowed) {
    call.decision = decision;
    throw Error(Code::kDenied, call.principal.text() + " may not sign with key " + shown +
                                   "; the deciding rule: keyagent why sign " + shown);
  }
  if (key->purpose == Purpose::kSign) call.state.untyped.note(keys, *key, Purpose::kIdentity);
  return *std::move(key);
}

}  // namespace

void run_exchange_offer(Call& call) {
  const auto& request = call.request.exchange_offer();
  auto& services = call.state.services;
  require_signer(call, request.identity());
  const auto offered = exchange::make_offer(services.keys, services.vault, services.clock,
                                            request.exchange_key(), request.identity());
  auto& reply = *call.response.mutable_exchange_offer();
  reply.set_exchange_spki(offered.exchange.spki.data(), offered.exchange.spki.size());
  reply.set_target_spki(offered.identity.spki.data(), offered.identity.spki.size());
  reply.set_proof(offered.proof);
}

void resolve_export(Call& call) {
  const auto& request = call.request.exchange_export();
  resolve_key(call, request.key());
  call.query.peer = request.target();
}

void run_export(Call& call) {
  const auto& request = call.request.exchange_export();
  auto& services = call.state.services;
  require_signer(call, request.identity());
  exchange::ExportOrder order;
  order.key = call.key->kid;
  order.request = request.request();
  order.specification = request.specification();
  order.identity = request.identity();
  order.target = Kid(request.target());
  order.target_spki = bytes_of(request.target_spki());
  order.exchange_spki = bytes_of(request.exchange_spki());
  order.proof = request.proof();
  const auto exported = exchange::export_key(services.keys, services.vault, services.clock, order);
  call.detail += ", for " + order.target.text() + ", request " + order.request;
  auto& reply = *call.response.mutable_exchange_export();
  reply.set_package(exported.package);
  reply.set_kid(exported.key.kid.text());
}

// Asked of policy with the name that the key will have, whether there is such a key or not.
void resolve_import(Call& call) {
  const auto& request = call.request.exchange_import();
  call.which = call.query.key = KeyName(request.name()).text();
  call.query.purpose = name_of(Purpose::kStorage);
  call.query.peer = kid_of_spki(request.source_spki());
}

void run_import(Call& call) {
  auto& services = call.state.services;
  const auto order = order_of(call.request.exchange_import());
  const auto package = exchange::check_package(services.keys, services.clock, order);
  // From here on the token decides. What it does not take counts against the unwrapping key, as a
  // failed envelope does (RELIABILITY 94).
  call.key = services.keys.find(package.exchange_kid.text());
  require_budget(call);
  try {
    const auto result = exchange::import_key(services.keys, order, package, call.principal.text());
    call.key = result.record;
    call.detail = result.record.origin + (result.imported ? "" : " (already imported)");
    auto& reply = *call.response.mutable_exchange_import();
    describe_key(result.record, *reply.mutable_key());
    reply.set_imported(result.imported);
  } catch (const Error& error) {
    call.failed_to_open = error.code() == Code::kIntegrity;
    throw;
  }
}

namespace {

// In a rule that names peers, "outside" allows the import of external keys.
void resolve_brought(Call& call, const std::string& name) {
  call.which = call.query.key = KeyName(name).text();
  call.query.purpose = name_of(Purpose::kStorage);
  call.query.peer = exchange::kOutside;
}

}  // namespace

void resolve_ticket(Call& call) {
  resolve_brought(call, call.request.import_ticket().name());
}

void run_ticket(Call& call) {
  auto& services = call.state.services;
  const auto ticket =
      exchange::open_ticket(services.keys, services.vault, services.clock,
                            KeyName(call.request.import_ticket().name()), call.principal.text());
  call.key = ticket.key;
  auto& reply = *call.response.mutable_import_ticket();
  describe_key(ticket.key, *reply.mutable_key());
  reply.set_expires(rfc3339(ticket.expires));
  reply.set_hash(ticket.hash == OaepHash::kSha1 ? "SHA-1" : "SHA-256");
}

void resolve_outside(Call& call) {
  resolve_brought(call, call.request.import_outside().name());
}

void run_outside(Call& call) {
  const auto& request = call.request.import_outside();
  auto& services = call.state.services;
  const KeyName name(request.name());
  const auto ticket = exchange::find_ticket(services.keys, services.vault, services.clock, name,
                                            call.principal.text());
  call.key = ticket.key;
  require_budget(call);
  try {
    call.key = exchange::bring_key(services.keys, services.clock, ticket, name,
                                   bytes_of(request.wrapped()), call.principal.text());
  } catch (const Error& error) {
    call.failed_to_open = error.code() == Code::kIntegrity;
    throw;
  }
  call.detail = call.key->origin;
  describe_key(*call.key, *call.response.mutable_import_outside()->mutable_key());
}

}  // namespace keyagent::gate
