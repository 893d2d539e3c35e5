// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an exchange of keys needs of the host's agent, which alone says which keys may leave it, and
// to whom.

#include <string>
#include <vector>

#include "agent/base/key_ops.h"
#include "agent/envelope/statement.h"

namespace keyagent::instance {

// One generation of a specification's storage key `data.SPECIFICATION`.
struct DataKey {
  std::string specification, kid, state;
  bool exchangeable = false;
};
// The key for which others wrap theirs for this host, and the JWS by which its identity says so.
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

// Thread-safe. Every method throws what the agent says; kPeer where it cannot be reached.
class KeyExchangeBackend {
 public:
  virtual ~KeyExchangeBackend() = default;
  // Peers pin its kid. Throws Error{kKeyNotPresent} until it was made.
  virtual PublicKeyInfo identity() = 0;
  // Is this an earlier generation of its key, in this token?
  virtual bool had_identity(const std::string& kid) = 0;
  // Makes it, and the key for which others wrap theirs, where they are missing.
  virtual void make_keys() = 0;
  // A JWS in compact form, by the identity key. Throws Error{kDenied} for what is no such
  // statement.
  virtual std::string sign(envelope::Statement statement, const std::string& payload) = 0;
  // Throws Error{kUnsupported} that names the mechanism which the token lacks.
  virtual ExchangeOffer offer() = 0;
  // What the token lacks to give keys away and take them in; empty: nothing that is known of.
  virtual std::string cannot_exchange() = 0;
  // Those that are not staged or destroyed.
  virtual std::vector<DataKey> data_keys() = 0;
  // The package: a JWS by the identity key around the wrapped key.
  virtual std::string export_key(const ExportOrder& order) = 0;
  // False: the key was there already.
  virtual bool import_key(const ImportOrder& order) = 0;
};

}  // namespace keyagent::instance
