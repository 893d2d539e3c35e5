// SPDX-License-Identifier: Apache-2.0
#pragma once
// The judgement of the other side's certificate, one code for each reason to refuse it (MISSION.md
// T5). Nothing here can be switched off.

#include <optional>

#include "agent/base/error.h"
#include "agent/tls/owned.h"
#include "agent/tls/tls.h"

namespace keyagent::tls {

enum class Side { kServer, kClient };

// The peer that this side, which is `side`, expects.
struct Expected {
  Side side = Side::kServer;
  std::string host;         // client: name or address that the certificate must have as SAN
  std::string kid;          // empty: any key
  std::string anchor_spki;  // Trust::anchor_spki_sha256
};

// Runs X509_verify_cert() on a prepared context, and checks what it does not: that the extended key
// usage is present, and the pinned keys. Leaves in `store` an error that selects the right TLS
// alert. nullopt: the peer is the expected one.
std::optional<Error> judge(X509_STORE_CTX* store, const Expected& expected);

// Host and purpose as parameters of a session's verification.
void set_parameters(X509_VERIFY_PARAM* parameters, const Expected& expected);

// Of a certificate; the session's fields stay empty.
Peer describe(X509* certificate);

}  // namespace keyagent::tls
