// SPDX-License-Identifier: Apache-2.0
#include "agent/exchange/exchange.h"

#include <algorithm>
#include <optional>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/keys/guarded_keys.h"

namespace keyagent::exchange {
namespace {

const std::string kKeyPrefix = "data.";
constexpr OaepHash kHashes[] = {OaepHash::kSha256, OaepHash::kSha1};  // best first

[[noreturn]] void refuse(const std::string& why, const Kid& kid = {}) {
  throw Error(Code::kIntegrity, why, kid.text());
}

// A specification's keys have its name, on both sides, so that no user can have the key of another
// specification wrapped under it.
void require_named(const KeyName& name, const std::string& specification) {
  if (name.text() == kKeyPrefix + specification) return;
  throw Error(Code::kUsage, "key " + name.text() + " does not belong to specification " +
                                specification + ": its keys are named " + kKeyPrefix +
                                specification);
}

// What both hashes lack, so that the text does not hide one behind the other.
void require_travel(const vault::TokenVault& vault, const char* what) {
  std::string missing;
  for (const OaepHash hash : kHashes) {
    missing = vault.missing_for_transfer(hash);
    if (missing.empty()) return;
  }
  throw Error(Code::kUnsupported,
              std::string("this agent's token cannot ") + what + " keys: it lacks " + missing);
}

// Sign keys were identities before there was a purpose for them.
bool is_identity(Purpose purpose) {
  return purpose == Purpose::kIdentity || purpose == Purpose::kSign;
}

keys::KeyRecord identity_of(const keys::KeyStore& keys, const std::string& which) {
  auto record = keys.find(which);
  if (is_identity(record.purpose)) return record;
  throw Error(Code::kUsage,
              "key " + record.name.text() + " is for " + std::string(name_of(record.purpose)) +
                  " and not an identity key; create one with --purpose identity",
              record.kid.text());
}

// What an identity may sign as a key exchange's is pinned by its kid: never by a name of a host.
PublicKeyInfo pinned_identity(const Bytes& spki) {
  return envelope::key_of_spki(spki, Purpose::kIdentity);
}

void require_time(WallTime issued, WallTime until, WallTime now, const std::string& what) {
  if (issued > now + kClockSkew)
    refuse(what + " is dated " + rfc3339(issued) + ", which is in the future");
  if (now > until + kClockSkew) refuse(what + " expired at " + rfc3339(until));
}

// The target's wrapping key: pinned by its identity, which is pinned by the policy.
OaepHash choose_hash(const vault::TokenVault& vault, const Clock& clock, const ExportOrder& order) {
  const PublicKeyInfo target = pinned_identity(order.target_spki);
  if (target.kid != order.target) {
    refuse(
        "the target's identity is " + target.kid.text() + ", expected was " + order.target.text(),
        order.target);
  }
  const Offer offer = open_offer(target, order.proof);
  require_time(offer.issued, offer.issued + kOfferLife, clock.now(),
               "the target's attestation of its key");
  const PublicKeyInfo exchange = envelope::key_of_spki(order.exchange_spki, Purpose::kExchange);
  if (offer.exchange_kid != exchange.kid) {
    refuse("the target's identity names the wrapping key " + offer.exchange_kid.text() +
               ", given was " + exchange.kid.text(),
           order.target);
  }
  if (!is_rsa(exchange.algorithm))
    throw Error(Code::kUnsupported, "the target's exchange key is not RSA", exchange.kid.text());
  std::string missing;
  for (const OaepHash hash : kHashes) {
    if (std::find(offer.oaep.begin(), offer.oaep.end(), hash) == offer.oaep.end()) continue;
    missing = vault.missing_for_transfer(hash);
    if (missing.empty()) return hash;
  }
  throw Error(Code::kUnsupported,
              "this agent's token cannot send keys to that target: it lacks " + missing);
}

}  // namespace

Offered make_offer(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const std::string& exchange_key, const std::string& identity) {
  require_travel(vault, "receive");
  Offered out;
  out.exchange = keys.find(exchange_key);
  out.identity = identity_of(keys, identity);
  if (out.exchange.purpose != Purpose::kExchange || !is_rsa(out.exchange.algorithm)) {
    throw Error(Code::kUsage, "key " + out.exchange.name.text() + " is not an RSA exchange key",
                out.exchange.kid.text());
  }
  if (!out.exchange.usable) {
    throw Error(Code::kKeyLost,
                "key " + out.exchange.name.text() + " cannot be offered: " + out.exchange.finding +
                    "; run: keyagent doctor",
                out.exchange.kid.text());
  }
  if (out.exchange.state != KeyState::kActive) {
    throw Error(Code::kKeyState,
                "key " + out.exchange.name.text() + " is " +
                    std::string(name_of(out.exchange.state)) + " and does not accept new keys",
                out.exchange.kid.text());
  }
  keys.require_use(out.exchange.kid, keys::Use::kSeal);
  Offer offer;
  offer.exchange_kid = out.exchange.kid;
  for (const OaepHash hash : kHashes) {
    if (vault.missing_for_transfer(hash).empty()) offer.oaep.push_back(hash);
  }
  offer.issued = clock.now();
  out.proof = sign_offer(keys.ops(), info_of(out.identity), offer);
  return out;
}

Exported export_key(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                    const ExportOrder& order) {
  require_request_id(order.request);
  require_specification(order.specification);
  require_travel(vault, "send");
  const keys::KeyRecord key = keys.find(order.key.text());
  require_named(key.name, order.specification);
  const keys::KeyRecord identity = identity_of(keys, order.identity);
  if (identity.kid == order.target)
    throw Error(Code::kUsage, "source and target are the same identity", order.target.text());
  Package package;
  package.oaep = choose_hash(vault, clock, order);
  package.request = order.request;
  package.specification = order.specification;
  package.source = identity.kid;
  package.target = order.target;
  package.exchange_kid = Kid(jwk_thumbprint(order.exchange_spki));
  package.kid = key.kid;
  package.created = key.created;
  package.state = key.state;
  package.issued = clock.now();
  package.expires = package.issued + kPackageLife;
  package.wrapped = keys.wrap_for(key.kid, order.exchange_spki, package.oaep);
  return {key, sign_package(keys.ops(), info_of(identity), package)};
}

Package check_package(const keys::KeyStore& keys, const Clock& clock, const ImportOrder& order) {
  require_request_id(order.request);
  require_specification(order.specification);
  require_named(order.name, order.specification);
  const PublicKeyInfo source = pinned_identity(order.source_spki);
  Package package = open_package(source, order.package);
  const auto require_same = [&](const char* what, const std::string& found,
                                const std::string& expected) {
    if (found != expected)
      refuse(std::string("the package is bound to ") + what + " " + found + ", expected was " +
                 expected,
             package.kid);
  };
  require_same("source", package.source.text(), source.kid.text());
  require_same("request", package.request, order.request);
  require_same("specification", package.specification, order.specification);
  require_time(package.issued, package.expires, clock.now(), "the package");
  // For this agent: its token has the wrapping key, under the name that was asked for, and the
  // identity that it was made for.
  std::optional<keys::KeyRecord> target, unwrapping;
  for (auto& record : keys.list()) {
    if (record.kid == package.target) target = record;
    if (record.kid == package.exchange_kid) unwrapping = record;
  }
  if (!target || !is_identity(target->purpose))
    refuse("the package is for the identity " + package.target.text() +
               ", which this agent does not have",
           package.kid);
  if (!unwrapping || unwrapping->name.text() != order.exchange_key)
    refuse("the package is wrapped for the key " + package.exchange_kid.text() +
               ", which is not a generation of " + escape_controls(order.exchange_key),
           package.kid);
  return package;
}

keys::ImportResult import_key(keys::KeyStore& keys, const ImportOrder& order,
                              const Package& package, const std::string& actor) {
  keys::ImportRequest request;
  request.name = order.name;
  request.kid = package.kid;
  request.created = package.created;
  request.origin = "imported from " + package.source.text() + ", request " + package.request;
  request.transferred = {package.exchange_kid, package.oaep, package.wrapped};
  return keys.import(request, {request.origin, actor});
}

}  // namespace keyagent::exchange
