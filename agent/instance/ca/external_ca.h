// SPDX-License-Identifier: Apache-2.0
#pragma once
// An external CA (MISSION T3): its certificates are read from files; requests and issued
// certificates are transferred by administrators.

#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/instance/common/config.h"
#include "agent/instance/common/json.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe. Files are read again at each call but the authority's own certificate, which is
// pinned by every agent.
class ExternalCa {
 public:
  // Throws Error{kConfiguration} when `outside` has not one root (self-signed), and at most what is
  // between it and the certificates.
  ExternalCa(const OutsideFiles& files, store::Store& store, const Clock& clock);

  const Bytes& root() const { return root_; }
  // The instance's own certificate from its file, leaf first. Throws Error{kConfiguration} when it
  // does not exist, pki::ChainError when it is for another key or host, has ended, is not for TLS
  // servers, or does not lead to the root.
  std::vector<Bytes> server_chain(const std::string& key, ByteView spki, const std::string& host);
  // DER. Throws Error{kConfiguration} without a list, kIntegrity when it is not the root's.
  Bytes crl() const;

  // The chain of an agent's key; nullopt: no certificate yet, and its request is pending.
  std::optional<std::vector<Bytes>> chain_of(const std::string& agent, ByteView spki,
                                             const std::string& csr);
  // {"requests":[{"agent","kid","csr","until"}]}: those that wait.
  Json requests() const;
  // Takes the certificate of a request that waits, in any form and order. Throws pki::ChainError
  // and, when it does not name this agent alone or is not for TLS clients, Error{kIntegrity};
  // nothing is changed then. Error{kUsage}: nothing waits.
  Json import(const std::string& agent, const std::string& file);

 private:
  std::vector<Bytes> with_known(std::vector<Bytes> certificates) const;

  const OutsideFiles files_;
  store::Store& store_;
  const Clock& clock_;
  std::vector<Bytes> known_;  // the root and those between
  Bytes root_;
};

}  // namespace keyagent::instance
