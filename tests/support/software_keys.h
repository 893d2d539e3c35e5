// SPDX-License-Identifier: Apache-2.0
#pragma once
// KeyOps on keys in this process's memory, for tests that need a key but no token.

#include <atomic>
#include <memory>
#include <string>

#include "agent/base/key_ops.h"

namespace keyagent::test {

// Keys of OpenSSL behind the port that a token vault has. Thread-safe. Follows KeyOps to the letter
// (implicit rejection, public checks first), but makes no promise about time: it is not a token.
class SoftwareKeys : public KeyOps {
 public:
  // How often each operation with a private or secret key was asked for, also where it was refused.
  struct Calls {
    std::atomic<int> sign{0}, decrypt{0}, agree{0}, wrap{0}, unwrap{0};
    int total() const { return sign + decrypt + agree + wrap + unwrap; }
  };

  SoftwareKeys();
  ~SoftwareKeys() override;

  // Generates. `envelope` kNone for a key that opens envelopes means default_envelope(purpose,
  // algorithm).
  PublicKeyInfo add(const std::string& name, Purpose purpose, KeyAlgorithm algorithm,
                    EnvelopeAlgorithm envelope = EnvelopeAlgorithm::kNone);
  // Takes a private key in PKCS#8 DER; `algorithm` must be what it is.
  PublicKeyInfo add_pkcs8(const std::string& name, Purpose purpose, KeyAlgorithm algorithm,
                          EnvelopeAlgorithm envelope, ByteView der);
  // Takes a storage key's 32 bytes.
  PublicKeyInfo add_secret(const std::string& name, const SecretBytes& key);
  // After this the kid is unknown.
  void forget(const Kid& kid);
  // PKCS#8 DER: for other programs that play our part in a test.
  Bytes pkcs8(const Kid& kid);
  const Calls& calls() const { return calls_; }

  PublicKeyInfo public_key(const Kid& kid) override;
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override;
  SecretBytes decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                          std::size_t cek_size) override;
  std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) override;
  SecretBytes agree(const Kid& kid, ByteView peer_point) override;
  WrappedCek wrap_cek(const Kid& kid, const SecretBytes& cek) override;
  SecretBytes unwrap_cek(const Kid& kid, const WrappedCek& wrapped, std::size_t cek_size) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  Calls calls_;
};

}  // namespace keyagent::test
