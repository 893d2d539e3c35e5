// SPDX-License-Identifier: Apache-2.0
#include "agent/exchange/key_import.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::exchange {
namespace {

KeyName ticket_name(const KeyName& name) {
  return KeyName(std::string(kOutside) + "." + name.text());
}

OaepHash usable_hash(const vault::TokenVault& vault) {
  if (vault.missing_for_transfer(OaepHash::kSha256).empty()) return OaepHash::kSha256;
  const std::string missing = vault.missing_for_transfer(OaepHash::kSha1);
  if (missing.empty()) return OaepHash::kSha1;
  throw Error(Code::kUnsupported, "this agent's token cannot receive keys: it lacks " + missing);
}

bool is_over(const keys::KeyRecord& key, const Clock& clock) {
  return clock.now() > key.created + kTicketLife;
}

std::string expected(OaepHash hash) {
  const std::string name = hash == OaepHash::kSha1 ? "SHA-1" : "SHA-256";
  return "expected an AES-256 key under RSAES-OAEP (" + name + ", MGF1 with " + name +
         ", no label), or an AES-256 key wrapped so and the key under that with AES-KWP (RFC 5649)";
}

}  // namespace

Ticket open_ticket(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const KeyName& name, const std::string& actor) {
  const OaepHash hash = usable_hash(vault);
  const KeyName called = ticket_name(name);
  keys::CreateRequest request;
  request.name = called;
  request.purpose = Purpose::kExchange;
  const keys::Cause cause{"ticket to import a key as " + name.text(), actor};
  auto key = keys.create(request, cause).record;
  if (is_over(key, clock)) {
    keys.destroy(key.kid.text(), {"it expired after two hours", actor});
    key = keys.create(request, cause).record;
  }
  return {key, key.created + kTicketLife, hash};
}

Ticket find_ticket(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const KeyName& name, const std::string& actor) {
  const OaepHash hash = usable_hash(vault);
  keys::KeyRecord key;
  try {
    key = keys.find(ticket_name(name).text());
  } catch (const Error& error) {
    if (error.code() != Code::kKeyNotPresent) throw;
    throw Error(Code::kKeyNotPresent, "no ticket for " + name.text() +
                                          "; create one with: keyagent key ticket " + name.text());
  }
  if (!is_over(key, clock)) return {key, key.created + kTicketLife, hash};
  keys.destroy(key.kid.text(), {"it expired after two hours", actor});
  throw Error(Code::kKeyState,
              "the ticket for " + name.text() + " expired at " +
                  rfc3339(key.created + kTicketLife) +
                  "; create another with: keyagent key ticket " + name.text(),
              key.kid.text());
}

keys::KeyRecord bring_key(keys::KeyStore& keys, const Clock& clock, const Ticket& ticket,
                          const KeyName& name, const Bytes& wrapped, const std::string& actor) {
  keys::ImportRequest request;
  request.name = name;
  request.kid = Kid(to_hex(random_bytes(16)));
  request.created = clock.now();
  request.origin = "brought from outside, ticket " + ticket.key.kid.text();
  request.transferred = {ticket.key.kid, ticket.hash, wrapped,
                         wrapped.size() == rsa_modulus_size(ticket.key.algorithm)};
  request.into_use = true;
  keys::KeyRecord record;
  try {
    record = keys.import(request, {request.origin, actor}).record;
  } catch (const Error& error) {
    if (error.code() != Code::kIntegrity) throw;
    throw Error(
        Code::kIntegrity,
        "the key does not unwrap with the ticket for " + name.text() + ": " + expected(ticket.hash),
        ticket.key.kid.text());
  }
  try {
    keys.destroy(ticket.key.kid.text(), {"it was used", actor});
  } catch (const Error& error) {
    // The key is here; the ticket ends by its time.
    log_warning("exchange", std::string("a used ticket could not be removed: ") + error.what());
  }
  return record;
}

}  // namespace keyagent::exchange
