// SPDX-License-Identifier: Apache-2.0
#pragma once
// Certificate revocation lists (RFC 5280 §5) as they are sent and kept.

#include <string>
#include <string_view>

#include "agent/base/bytes.h"

namespace keyagent::pki {

// "-----BEGIN X509 CRL-----" … of one in DER.
std::string crl_pem(ByteView der);

// The first list in the PEM, in DER: of the authority's name and signed by its key. An old one is
// taken, for what it names stays revoked; its age is checked where a chain is verified with it.
// Throws Error{kInput} when there is none, Error{kIntegrity} when it is not `authority`'s.
Bytes read_crl(std::string_view file, ByteView authority);

}  // namespace keyagent::pki
