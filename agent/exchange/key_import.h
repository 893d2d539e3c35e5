// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bring your own key (MISSION X15): imports an external storage key, wrapped for an RSA pair of
// this token that is valid for two hours and one import.

#include "agent/exchange/package.h"
#include "agent/keys/key_store.h"

namespace keyagent::exchange {

inline constexpr std::chrono::hours kTicketLife{2};
// What rules of the policy call the peer of such an import.
inline constexpr std::string_view kOutside = "outside";

struct Ticket {
  keys::KeyRecord key;  // "outside.NAME", RSA
  WallTime expires{};
  OaepHash hash = OaepHash::kSha1;  // the hash to wrap it with
};
// The one for `name`: that which is good still, or a new one. Throws Error{kUnsupported} with what
// the token lacks.
Ticket open_ticket(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const KeyName& name, const std::string& actor);
// Throws Error{kKeyNotPresent} without a ticket, Error{kKeyState} after its time: it is destroyed
// then.
Ticket find_ticket(keys::KeyStore& keys, const vault::TokenVault& vault, const Clock& clock,
                   const KeyName& name, const std::string& actor);
// The key in `wrapped` becomes `name`'s active one if it has none; the ticket is destroyed. All
// invalid bytes return the same Error{kIntegrity}, which describes the expected format.
keys::KeyRecord bring_key(keys::KeyStore& keys, const Clock& clock, const Ticket& ticket,
                          const KeyName& name, const Bytes& wrapped, const std::string& actor);

}  // namespace keyagent::exchange
