// SPDX-License-Identifier: Apache-2.0
#pragma once
// When a certificate is to be renewed, and when to warn that it was not. Pure.

#include <optional>
#include <string>

#include "agent/link/certificates.h"

namespace keyagent::link {

// After two thirds of the certificate's life, less up to a twentieth derived from its key, so that
// a fleet does not renew in one night (MISSION T8).
WallTime renew_at(const Leaf& leaf, const std::string& kid);

// The smallest of 30, 14, 7, 1 and 0 days that the rest of its life has come below; nullopt: more
// than 30 are left.
std::optional<int> days_left(const Leaf& leaf, WallTime now);

}  // namespace keyagent::link
