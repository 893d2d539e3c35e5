// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an auth key may sign. The meaning of a digest cannot be checked, so an auth key takes the
// whole message, and the agent signs it only when it can only be a TLS handshake or a certification
// request for this key (RELIABILITY 98). Pure.

#include <optional>
#include <string_view>

#include "agent/base/bytes.h"

namespace keyagent::pki {

enum class ToBeSigned {
  kTls13CertificateVerify,  // RFC 8446 §4.4.3, server or client
  kTls12ServerKeyExchange,  // RFC 8422 §5.4: randoms and ECDHE parameters
  kTls12CertificateVerify,  // RFC 5246 §7.4.8: the handshake so far, from ClientHello on
  kCertificationRequest     // RFC 2986 §4.1, for the key itself
};

// "TLS 1.3 handshake", … for the audit log.
std::string_view name_of(ToBeSigned kind);

// A part of a TLS handshake, and nothing that outlives it.
bool is_handshake(ToBeSigned kind);

// nullopt: nothing that an auth key signs. `spki`: the key's own SubjectPublicKeyInfo, which a
// certification request must be for.
std::optional<ToBeSigned> recognize(ByteView message, ByteView spki);

}  // namespace keyagent::pki
