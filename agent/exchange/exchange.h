// SPDX-License-Identifier: Apache-2.0
#pragma once
// A data key out of this agent's token for another instance's, and in from one. Who may have it was
// decided before (policy); what is bound to what is checked here.

#include <string>

#include "agent/exchange/package.h"
#include "agent/keys/key_store.h"

namespace keyagent::exchange {

// The target's side, first: which key it is to be wrapped for.
struct Offered {
  keys::KeyRecord exchange, identity;
  std::string proof;  // JWS of Offer
};
// Throws Error{kUnsupported} that names what the token lacks: nothing was sent then (MISSION X4).
// Error{kUsage} unless `exchange_key` is an RSA exchange key and `identity` an identity (or a sign
// key), Error{kKeyState, kKeyLost} unless the exchange key is in use in this token.
Offered make_offer(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const std::string& exchange_key, const std::string& identity);

struct ExportOrder {
  Kid key;
  std::string request, specification;
  std::string identity;  // name of the key that signs
  Kid target;            // the pinned identity
  Bytes target_spki, exchange_spki;
  std::string proof;  // the target's offer
};
struct Exported {
  keys::KeyRecord key;
  std::string package;
};
// REQUIRES: policy allows `order.key` to leave for `order.target`. Throws Error{kIntegrity} when
// the target's identity does not attest the wrapping key (RELIABILITY 90), Error{kUnsupported}
// with what is missing, Error{kKeyState} for a key that is not exchangeable.
Exported export_key(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                    const ExportOrder& order);

struct ImportOrder {
  std::string package;
  std::string request, specification;
  Bytes source_spki;         // the pinned identity
  std::string exchange_key;  // name of the unwrapping key
  KeyName name;              // of the storage key whose generation it becomes
};
// Who sent it and that it is for this agent, this request and this specification, now. Throws
// Error{kIntegrity} for anything else: before the token is asked.
Package check_package(const keys::KeyStore& keys, const Clock& clock, const ImportOrder& order);
// REQUIRES: `package` is check_package()'s answer.
keys::ImportResult import_key(keys::KeyStore& keys, const ImportOrder& order,
                              const Package& package, const std::string& actor);

}  // namespace keyagent::exchange
