// SPDX-License-Identifier: Apache-2.0
#pragma once
// The operations of the host's agent that an exchange of keys needs. Only the agent decides which
// keys may leave it, and for which identity.

#include <string>
#include <vector>

#include "agent/base/key_ops.h"
#include "agent/envelope/statement.h"

namespace keyagent::instance {

// One generation of a specification's storage key `data.SPECIFICATION`.
struct DataKey {
  std::string specification, kid, state;
  bool exchangeable = false;
  bool ready = true;  // its state allows an export now
};
// The key that others wrap their keys for, and the JWS by which this host's identity attests it.
struct ExchangeOffer {
  Bytes exchange_spki;
  std::string proof;
};
struct ExportOrder {
  std::string kid, request, specification;
  std::string target;  // kid of the target's identity
  Bytes target_spki;   // that identity
  ExchangeOffer offer;
};
struct ImportOrder {
  std::string package, request, specification;
  Bytes source_spki;  // the source's identity
};

// Thread-safe. Every method throws the agent's error: kPeer when it cannot be reached.
class KeyExchangeBackend {
 public:
  virtual ~KeyExchangeBackend() = default;
  // Peers pin its kid. Throws Error{kKeyNotPresent} until it was made.
  virtual PublicKeyInfo identity() = 0;
  // Whether `kid` is an earlier generation of the identity key, in this token.
  virtual bool had_identity(const std::string& kid) = 0;
  // Creates the identity key and the exchange key if they are missing.
  virtual void make_keys() = 0;
  // A compact JWS, signed by the identity key. Throws Error{kDenied} for a payload that is not such
  // a statement.
  virtual std::string sign(envelope::Statement statement, const std::string& payload) = 0;
  // Throws Error{kUnsupported} that names the mechanism which the token lacks.
  virtual ExchangeOffer offer() = 0;
  // What the token lacks to give keys away and take them in; empty: nothing that is known of.
  virtual std::string cannot_exchange() = 0;
  // Those that are not staged or destroyed.
  virtual std::vector<DataKey> data_keys() = 0;
  // Whether the agent's policy allows this instance to export the key to that peer, or to import it
  // from there. `action`: "export" or "import"; `key`: kid or name; `peer`: the other's identity.
  virtual bool allows(const std::string& action, const std::string& key,
                      const std::string& peer) = 0;
  // The package: a JWS by the identity key around the wrapped key.
  virtual std::string export_key(const ExportOrder& order) = 0;
  // False: the key was there already.
  virtual bool import_key(const ImportOrder& order) = 0;
};

}  // namespace keyagent::instance
