// SPDX-License-Identifier: Apache-2.0
#pragma once
// Operations on public keys and on ephemeral pairs, with OpenSSL. Internal to this room.
// Thread-safe.

#include "agent/base/key_ops.h"
#include "agent/envelope/openssl_owned.h"

namespace keyagent::envelope {

// Throws Error{kUsage} for anything but one whole DER SubjectPublicKeyInfo.
Owned<EVP_PKEY> load_spki(ByteView spki);
// Throws Error{kUsage} for a type or size that keyagent does not use.
KeyAlgorithm algorithm_of_spki(ByteView spki);

Bytes spki_of_rsa(ByteView modulus, ByteView exponent);
// `point`: uncompressed SEC1. Throws Error{kUsage} when it is not on the curve.
Bytes spki_of_ec(KeyAlgorithm curve, ByteView point);
Bytes spki_of_ed25519(ByteView raw);

// Is this an uncompressed SEC1 point on the curve (SP 800-56A §5.6.2.3.3)? The order is prime: no
// more is to be checked.
bool on_curve(KeyAlgorithm curve, ByteView point);

struct RsaNumbers {
  Bytes modulus, exponent;  // without leading zeros
};
RsaNumbers rsa_numbers(EVP_PKEY* key);
// The public key of an EC pair, uncompressed; of Ed25519, its 32 bytes.
Bytes public_point(EVP_PKEY* key);

// RSAES-OAEP, MGF1 with the same hash, empty label.
Bytes oaep_encrypt(ByteView spki, OaepHash hash, const SecretBytes& secret);

struct EphemeralAgreement {
  Bytes point;    // of the ephemeral key, uncompressed
  SecretBytes z;  // x coordinate, as wide as the field
};
// A fresh pair on the key's curve, used once and wiped.
EphemeralAgreement agree_ephemeral(ByteView spki);

}  // namespace keyagent::envelope
