// SPDX-License-Identifier: Apache-2.0
#pragma once
// The provider's keys in the agent itself: what nginx has over a socket, keyagentd has over its own
// gate, so that it does TLS with the same provider core.

#include "agent/link/own_keys.h"
#include "agent/openssl/backend.h"

namespace keyagent::link {

// Thread-safe. Every signature is authorized and recorded as internal:link's. Makes no keys.
class GateBackend final : public openssl::Backend {
 public:
  explicit GateBackend(GateClient& gate) : keys_(gate) {}
  PublicKeyInfo find(const std::string& which) override;
  PublicKeyInfo find_by_id(const Bytes& cka_id) override;
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override;
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) override;
  PublicKeyInfo create(const std::string& name, KeyAlgorithm algorithm,
                       const std::string& purpose) override;

 private:
  OwnKeys keys_;
};

}  // namespace keyagent::link
