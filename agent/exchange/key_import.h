// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bring your own key (MISSION X15): a storage key that someone made elsewhere comes in wrapped for
// an RSA pair of this token that lives two hours and serves once.

#include "agent/exchange/package.h"
#include "agent/keys/key_store.h"

namespace keyagent::exchange {

inline constexpr std::chrono::hours kTicketLife{2};
// What rules of the policy call the peer of such an import.
inline constexpr std::string_view kOutside = "outside";

struct Ticket {
  keys::KeyRecord key;  // "outside.NAME", RSA
  WallTime expires{};
  OaepHash hash = OaepHash::kSha1;  // what it is to be wrapped with
};
// The one for `name`: that which is good still, or a new one. Throws Error{kUnsupported} with what
// the token lacks.
Ticket open_ticket(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const KeyName& name, const std::string& actor);
// Throws Error{kKeyNotPresent} without a ticket, Error{kKeyState} after its time: it is destroyed
// then.
Ticket find_ticket(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const KeyName& name, const std::string& actor);
// The key in `wrapped` becomes `name`'s active one where it has none; the ticket is destroyed.
// Whatever is wrong with the bytes is one Error{kIntegrity} that says what was expected.
keys::KeyRecord bring_key(keys::KeyStore& keys, const Clock& clock, const Ticket& ticket,
                          const KeyName& name, const Bytes& wrapped, const std::string& actor);

}  // namespace keyagent::exchange
