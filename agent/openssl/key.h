// SPDX-License-Identifier: Apache-2.0
#pragma once
// A key as OpenSSL sees it: public parts, and a backend when its private half is the agent's.

#include <memory>
#include <optional>
#include <string>

#include "agent/openssl/backend.h"

namespace keyagent::openssl {

enum class Type { kRsa, kEc, kEd25519 };

struct Key {
  Type type = Type::kRsa;
  Bytes modulus, exponent;            // RSA, big-endian, without leading zeros
  std::string group;                  // EC: "prime256v1", "secp384r1"
  Bytes point;                        // EC: uncompressed SEC1 point; Ed25519: 32 bytes
  std::optional<PublicKeyInfo> info;  // of the agent's key; nullopt for an imported public key
  std::shared_ptr<Backend> backend;

  bool has_private() const { return backend != nullptr; }
  bool has_public() const { return !modulus.empty() || !point.empty(); }
  std::size_t field_size() const;  // EC: in bytes; also of a key that has a group only
  int bits() const;
  int security_bits() const;           // SP 800-57 part 1 table 2
  std::size_t signature_size() const;  // the most; of DER for ECDSA
  bool same_public(const Key& other) const;
};

std::optional<Type> type_of(KeyAlgorithm algorithm);
// "RSA" "EC" "ED25519"
const char* name_of(Type type);

// Throws Error{kPeer} for an invalid SubjectPublicKeyInfo.
Key make_key(const PublicKeyInfo& info, std::shared_ptr<Backend> backend);

}  // namespace keyagent::openssl
