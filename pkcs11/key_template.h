// SPDX-License-Identifier: Apache-2.0
#pragma once
// The complete templates of new keys: nothing is left to a token's defaults, nothing is changed
// later.

#include "pkcs11/attributes.h"
#include "pkcs11/key.h"

namespace keyagent::pkcs11 {

// CKA_EC_PARAMS of a curve: DER of its OBJECT IDENTIFIER (SEC 1, RFC 8410). Empty for RSA and AES.
Bytes ec_params(KeyKind kind);
// Modulus size in bits; 0 for others.
CK_ULONG modulus_bits(KeyKind kind);
// Field element size in bytes: 32, 48; 32 for Ed25519; 0 for others.
std::size_t field_size(KeyKind kind);
// What profiles call it: "rsa-3072".
const char* kind_name(KeyKind kind);

void public_template(Attributes& out, const KeySpec& spec, const Profile& profile);
void private_template(Attributes& out, const KeySpec& spec, const Profile& profile);
void secret_template(Attributes& out, const KeySpec& spec, const Profile& profile);

}  // namespace keyagent::pkcs11
