// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the provider's keys are: an agent's socket in other programs, the agent's own keys in the
// agent.

#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/key_ops.h"

namespace keyagent::openssl {

// Thread-safe; called in any thread of the host program and in its forked children.
class Backend {
 public:
  virtual ~Backend() = default;
  // A key by name, or by kid. Throws Error.
  virtual PublicKeyInfo find(const std::string& which) = 0;
  // By CKA_ID, as `id` of a pkcs11: URI has it.
  virtual PublicKeyInfo find_by_id(const Bytes& cka_id) = 0;
  // The certificate of a key and those above it, in DER; empty: it has none.
  virtual std::vector<Bytes> certificates(const Kid&) { return {}; }
  // As KeyOps::sign(): a digest, or for EdDSA the message.
  virtual Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) = 0;
  // Signs the whole message. Required for `auth` keys: the agent signs only TLS handshakes and
  // certification requests with them (agent/pki/to_be_signed.h).
  virtual Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) = 0;
  // As KeyOps::decrypt() and KeyOps::agree(). A backend whose keys only sign has none.
  virtual std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash, ByteView) {
    throw Error(Code::kUnsupported, "this key only signs", kid.text());
  }
  virtual SecretBytes agree(const Kid& kid, ByteView) {
    throw Error(Code::kUnsupported, "this key only signs", kid.text());
  }
  // Makes a key and returns it.
  virtual PublicKeyInfo create(const std::string& name, KeyAlgorithm algorithm,
                               const std::string& purpose) = 0;
};

}  // namespace keyagent::openssl
