// SPDX-License-Identifier: Apache-2.0
#pragma once
// Subject alternative names (RFC 5280 §4.2.1.6) from text, checked one by one and never given to a
// parser of configuration strings. Internal to this room.

#include <openssl/x509v3.h>

#include <string>
#include <vector>

#include "agent/pki/x509.h"

namespace keyagent::pki {

inline constexpr std::size_t kMaxAlternativeNames = 100;

using GeneralNames = Owned<GENERAL_NAMES, GENERAL_NAMES_free>;

// Of "DNS:www.example.org", "DNS:*.example.org", "IP:192.0.2.1", "email:ops@example.org",
// "URI:spiffe://example.org/web". Each text becomes exactly one name, byte by byte, or is refused:
// Error{kUsage} that quotes it (controls escaped) and describes the expected form. The caller
// encodes letters beyond ASCII: A-labels (xn--) in host names, %XX in URIs.
GeneralNames general_names(const std::vector<std::string>& names);

}  // namespace keyagent::pki
