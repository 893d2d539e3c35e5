// SPDX-License-Identifier: Apache-2.0
#pragma once
// KeyOps through an agent's socket: what programs without a token use.

#include "agent/base/key_ops.h"
#include "agent/client/client.h"

namespace keyagent::client {

// Thread-safe. sign(), decrypt(), agree() and public_key() go to the agent. Those that would give a
// CEK of an envelope to the caller are not offered by the socket (callers ask the agent to open the
// envelope): they throw Error{kUnsupported}. What the agent does not decrypt is nullopt.
class RemoteKeys final : public KeyOps {
 public:
  explicit RemoteKeys(Client& client) : client_(client) {}
  PublicKeyInfo public_key(const Kid& kid) override;
  // By name or kid.
  PublicKeyInfo find(const std::string& which);
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override;
  // The agent hashes `message` itself (at most 128 KiB): how auth keys sign.
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message);
  SecretBytes decrypt_cek(const Kid&, OaepHash, ByteView, std::size_t) override;
  std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) override;
  SecretBytes agree(const Kid& kid, ByteView peer_point) override;
  WrappedCek wrap_cek(const Kid&, const SecretBytes&) override;
  SecretBytes unwrap_cek(const Kid&, const WrappedCek&, std::size_t) override;

 private:
  Client& client_;
};

}  // namespace keyagent::client
