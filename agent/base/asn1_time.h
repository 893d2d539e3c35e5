// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times of certificates: for comparisons, and as written, whatever the year (RFC 5280 §4.1.2.5 has
// 99991231235959Z for "without an end", which no clock of this program reaches).

#include <openssl/asn1.h>

#include <optional>
#include <string>

#include "agent/base/clock.h"

namespace keyagent {

// The nearest one from 1969-01-01 to 2261-01-01, of which any two have a difference. nullopt: it is
// not a time.
std::optional<WallTime> wall_time(const ASN1_TIME* time);
// RFC 3339 as rfc3339() writes it: "2049-12-31T23:59:59.000Z". Empty: it is not a time.
std::string time_text(const ASN1_TIME* time);

}  // namespace keyagent
