// SPDX-License-Identifier: Apache-2.0
#pragma once
// The provider's keys in an agent on this host, through its socket.

#include "agent/client/remote_keys.h"
#include "agent/openssl/backend.h"

namespace keyagent::provider {

// Thread-safe and fork-safe: a child that uses it gets its own connection (client/client.h).
// An agent that is restarted is waited for, up to the deadline of a call: everything but create()
// may be sent twice.
class RemoteBackend final : public openssl::Backend {
 public:
  // `survive_chroot`: client/client.h.
  explicit RemoteBackend(const std::filesystem::path& socket, bool survive_chroot = false);
  PublicKeyInfo find(const std::string& which) override;
  PublicKeyInfo find_by_id(const Bytes& cka_id) override;
  std::vector<Bytes> certificates(const Kid& kid) override;
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override;
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) override;
  std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) override;
  SecretBytes agree(const Kid& kid, ByteView peer_point) override;
  PublicKeyInfo create(const std::string& name, KeyAlgorithm algorithm,
                       const std::string& purpose) override;

 private:
  client::Client client_;
  client::RemoteKeys keys_;
};

}  // namespace keyagent::provider
