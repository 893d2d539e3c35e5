// SPDX-License-Identifier: Apache-2.0
#pragma once
// The messages between instances: a data key wrapped in the source's token for one target, and the
// target's offer, which names the key to wrap it for. Both are JWS (compact) over strict JSON, each
// with a separate type, so that a signature is not valid for the other kind. Wire format:
// README.md.

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/key_ops.h"

namespace keyagent::exchange {

inline constexpr std::size_t kMaxPackage = 8 * 1024;
inline constexpr std::string_view kPackageType = "keyagent-exchange+jws";
inline constexpr std::string_view kOfferType = "keyagent-exchange-key+jws";

// Maximum clock difference of two hosts.
inline constexpr std::chrono::minutes kClockSkew{5};
// How long a package may wait for its delivery; then the source makes another one.
inline constexpr std::chrono::hours kPackageLife{24};
// Maximum age of an offer: approvals take days.
inline constexpr std::chrono::hours kOfferLife{30 * 24};

struct Package {
  std::string request;                 // [A-Za-z0-9][A-Za-z0-9._-]{0,63}
  std::string specification;           // [a-z0-9][a-z0-9._-]{0,40}
  Kid source, target;                  // identities
  Kid exchange_kid;                    // the target's RSA key that it is wrapped for
  Kid kid;                             // of the data key
  WallTime created{};                  // of the data key
  KeyState state = KeyState::kActive;  // at the source: active or deactivated
  OaepHash oaep = OaepHash::kSha1;
  Bytes wrapped;
  WallTime issued{}, expires{};
};

// The target's statement about its exchange key, signed by its identity.
struct Offer {
  Kid exchange_kid;
  std::vector<OaepHash> oaep;  // what its token unwraps, best first
  WallTime issued{};
};

// Throws Error{kUsage} for an invalid text.
void require_request_id(std::string_view text);
void require_specification(std::string_view text);

// Signed in the token by `identity`. Throws what KeyOps does.
std::string sign_package(KeyOps& ops, const PublicKeyInfo& identity, const Package& package);
std::string sign_offer(KeyOps& ops, const PublicKeyInfo& identity, const Offer& offer);

// Throws Error{kIntegrity} unless `source` signed exactly such a text. What it is bound to is for
// the caller to compare. Never throws anything else for bytes from outside.
Package open_package(const PublicKeyInfo& source, std::string_view jws);
Offer open_offer(const PublicKeyInfo& target, std::string_view jws);

// The payload alone, for tests of the parser: nullopt-like Error{kIntegrity} as above.
Package parse_package(std::string_view payload);
Offer parse_offer(std::string_view payload);

}  // namespace keyagent::exchange
