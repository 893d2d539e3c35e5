// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's own keys: in the token of its host, reached through that host's agent.

#include <map>
#include <optional>
#include <string>

#include "agent/base/key_ops.h"
#include "agent/base/mutex.h"
#include "agent/client/client.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/statement.h"
#include "agent/instance/common/config.h"
#include "agent/pki/issuer.h"

namespace keyagent::instance {

// Has a statement signed by an attestation key: a compact JWS. Throws Error{kDenied} for a text
// that the agent does not accept as such a statement.
std::string sign_text(client::Client& client, const Kid& key, envelope::Statement statement,
                      const std::string& payload);

// Thread-safe. Every method throws the agent's error: kPeer when the agent cannot be reached,
// kDenied for what its issuing rules do not allow.
class HostKeys {
 public:
  explicit HostKeys(const InstanceConfig& config);

  // Makes those that are missing; the others stay as they are.
  void create_missing();

  PublicKeyInfo find(const std::string& name) { return keys_.find(name); }

  // By the CA key, in DER. The agent builds them: the serial number is its choice.
  Bytes make_authority(const std::string& subject, const pki::Validity& validity);
  struct Certified {
    Bytes spki;
    pki::Use use = pki::Use::kClient;
    std::vector<std::string> names;  // an agent's id; or host names and addresses
    pki::Validity validity;
  };
  Bytes issue(ByteView authority, const Certified& certified);
  Bytes make_crl(ByteView authority, const std::vector<pki::Revoked>& revoked, std::uint64_t number,
                 const pki::Validity& validity);

  // A PKCS#10 request of the TLS key, DER, for servers of these names ("DNS:…", "IP:…").
  Bytes tls_request(const std::vector<std::string>& names);
  // A JWS in compact form, by the confirmation key.
  std::string sign_confirmation(envelope::Statement statement, const std::string& payload);
  // The payload, if any generation of the confirmation key has signed it.
  std::optional<std::string> verify_confirmation(envelope::Statement statement,
                                                 const std::string& jws);

 private:
  Bytes sign_statement(wire::Request request);
  std::optional<PublicKeyInfo> confirmation_key(const Kid& kid);

  client::Client client_;
  client::RemoteKeys keys_;
  const InstanceConfig& config_;
  Mutex mutex_;
  std::map<std::string, PublicKeyInfo> confirmation_keys_ GUARDED_BY(mutex_);  // by kid
};

}  // namespace keyagent::instance
