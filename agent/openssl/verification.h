// SPDX-License-Identifier: Apache-2.0
#pragma once
// Verifying with the public half of an agent's key, for programs that name the key itself
// (openssl pkeyutl -verify -inkey keyagent:NAME).

#include "agent/openssl/key.h"

namespace keyagent::openssl {

// `input` as KeyOps::sign() takes it, `signature` as OpenSSL has it (DER for ECDSA). False for
// whatever does not verify. Throws Error{kUnsupported} for a key that is not the agent's: those are
// the default provider's.
bool verifies(const Key& key, SignatureAlgorithm algorithm, ByteView input, ByteView signature);

}  // namespace keyagent::openssl
