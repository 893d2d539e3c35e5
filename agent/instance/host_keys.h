#pragma once
// The instance's own keys: in the token of its host, reached through that host's agent.

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "agent/base/key_ops.h"
#include "agent/client/client.h"
#include "agent/client/remote_keys.h"
#include "agent/instance/config.h"
#include "agent/pki/issuer.h"

namespace keyagent::instance {

// Thread-safe. Every method throws what the agent says: kPeer where it cannot be reached.
class HostKeys {
 public:
  explicit HostKeys(const InstanceConfig& config);

  // Makes those that are missing; the others stay as they are.
  void create_missing();

  PublicKeyInfo find(const std::string& name) { return keys_.find(name); }
  // For certificates and CRLs.
  pki::RequestSigner ca_signer();
  // A PKCS#10 request of the TLS key, DER, for servers of these names ("DNS:…", "IP:…").
  Bytes tls_request(const std::vector<std::string>& names);
  // A JWS in compact form, by the confirmation key.
  std::string sign_confirmation(const std::string& payload);
  // The payload, if any generation of the confirmation key has signed it.
  std::optional<std::string> verify_confirmation(const std::string& jws);

 private:
  pki::RequestSigner signer_of(const PublicKeyInfo& info);

  client::Client client_;
  client::RemoteKeys keys_;
  const InstanceConfig& config_;
  std::mutex mutex_;
  std::map<std::string, PublicKeyInfo> confirmation_keys_;  // guarded by mutex_; by kid
};

}  // namespace keyagent::instance
