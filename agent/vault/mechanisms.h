// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the agent's vocabulary of keys to Cryptoki's, as pure tables.

#include <string>
#include <vector>

#include "agent/base/key_types.h"
#include "agent/vault/token_vault.h"
#include "pkcs11/key.h"
#include "pkcs11/object.h"

namespace keyagent::vault {

pkcs11::KeyKind kind_of(KeyAlgorithm algorithm);
// The one usage of a purpose. REQUIRES allowed(purpose, algorithm).
pkcs11::Usage usage_of(Purpose purpose, KeyAlgorithm algorithm);
pkcs11::SignScheme scheme_of(SignatureAlgorithm algorithm);
pkcs11::Hash hash_of(SignatureAlgorithm algorithm);
pkcs11::Hash hash_of(OaepHash hash);

// Is this an uncompressed SEC1 point on the key's curve, other than infinity?
bool on_curve(KeyAlgorithm algorithm, ByteView point);

// Keys only (public, private, secret), one entry an id, sorted by id; objects without CKA_ID are
// left out.
std::vector<TokenObject> group_by_id(const std::vector<pkcs11::ObjectInfo>& infos);

// Checks the attributes of a new key: returns the difference from the template, for a person; empty
// when there is none. By profile: where the token reports ALWAYS_SENSITIVE and similar attributes
// truthfully, a missing or wrong value counts; where it takes FALSE usages (deny_usages), an extra
// usage counts. A TPM has keys that may do more than requested: there the agent's own purposes are
// the only separation. An exchangeable or imported key is checked against its own template:
// extractable, or not generated here.
std::string custody_fault(const pkcs11::Custody& custody, pkcs11::Usage usage,
                          const pkcs11::Profile& profile, Birth birth = Birth::kHere);

}  // namespace keyagent::vault
