// SPDX-License-Identifier: Apache-2.0
#pragma once
// Proof of possession of a transport key: 32 random bytes sealed to it, and returned opened.
//
// An agent that answers challenges opens envelopes for others. So a challenge begins with a fixed
// prefix, and no other envelope sealed to the key passes as one, such as a blind credential that
// its author sealed (MISSION R4).

#include <optional>

#include "agent/envelope/envelope.h"

namespace keyagent::envelope {

// What is to be sent back: 32 random bytes.
SecretBytes new_challenge();
// A JWE in compact form. REQUIRES: 32 bytes.
Bytes seal_challenge(const PublicKeyInfo& key, const SecretBytes& secret);
// The 32 bytes of an opened challenge; nullopt: it is not a challenge.
std::optional<SecretBytes> secret_of_challenge(const SecretBytes& opened);

}  // namespace keyagent::envelope
