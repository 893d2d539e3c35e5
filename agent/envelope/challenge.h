// SPDX-License-Identifier: Apache-2.0
#pragma once
// Proof that someone has a transport key now: 32 random bytes sealed to it, and sent back opened.
//
// Whoever answers challenges opens what others sealed and gives it away. So a challenge begins with
// words of its own, and nothing else that was ever sealed to the key is one: not a credential that
// its author sealed past the instance (MISSION R4).

#include <optional>

#include "agent/envelope/envelope.h"

namespace keyagent::envelope {

// What is to be sent back: 32 random bytes.
SecretBytes new_challenge();
// A JWE in compact form. REQUIRES: 32 bytes.
Bytes seal_challenge(const PublicKeyInfo& key, const SecretBytes& secret);
// The 32 bytes of an opened challenge; nullopt: it is none.
std::optional<SecretBytes> secret_of_challenge(const SecretBytes& opened);

}  // namespace keyagent::envelope
