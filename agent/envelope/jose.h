// SPDX-License-Identifier: Apache-2.0
#pragma once
// The public part of a JWE in compact serialization (RFC 7516 §7.1), parsed strictly. Internal to
// this room.

#include <array>
#include <string>
#include <string_view>

#include "agent/envelope/envelope.h"

namespace keyagent::envelope {

// Bytes of the content encryption key.
inline std::size_t cek_size(ContentEncryption enc) {
  return enc == ContentEncryption::kA128Gcm ? 16 : 32;
}
inline std::string_view name_of(ContentEncryption enc) {
  return enc == ContentEncryption::kA128Gcm ? "A128GCM" : "A256GCM";
}

struct Jwe {
  std::string_view header_text;  // the additional authenticated data; a view into the token
  EnvelopeAlgorithm algorithm = EnvelopeAlgorithm::kNone;
  ContentEncryption enc = ContentEncryption::kA256Gcm;
  std::string kid;  // or empty
  std::optional<Binding> binding;
  // ECDH-ES (RFC 7518 §4.6.1)
  KeyAlgorithm curve = KeyAlgorithm::kEcP256;
  Bytes ephemeral_point;  // uncompressed SEC1, not yet known to be on the curve
  Bytes apu, apv;
  // A256GCMKW (RFC 7518 §4.7.1)
  Bytes key_iv, key_tag;

  Bytes encrypted_key, iv, ciphertext, tag;
};

// Throws Error{kInput} for malformed tokens, Error{kUnsupported} for well-formed ones that need
// unsupported features.
Jwe parse_jwe(std::string_view token);

// RFC 7518 §4.6.2: OtherInfo for the key that `algorithm_id` names.
Bytes concat_info(std::string_view algorithm_id, ByteView apu, ByteView apv, std::size_t key_size);
// The AlgorithmID and size of the key that the agreement yields: the CEK itself, or what wraps it.
std::string_view agreed_name(EnvelopeAlgorithm algorithm, ContentEncryption enc);
std::size_t agreed_size(EnvelopeAlgorithm algorithm, ContentEncryption enc);

// What a key opens is of one kind (PublicKeyInfo::accepts_cbc). Throws Error{kUnsupported} for the
// other.
void require_content(const PublicKeyInfo& key, bool authenticated);
// Nothing is sealed here to a key that accepts AES-CBC. Throws Error{kUnsupported}.
void require_authenticated(const PublicKeyInfo& key);

SecretBytes open_jwe(KeyOps& ops, const PublicKeyInfo& key, std::string_view token);

}  // namespace keyagent::envelope
