// SPDX-License-Identifier: Apache-2.0
#pragma once
// The encodings of signatures that OpenSSL wants and the agent's protocol has otherwise. Pure.

#include "agent/base/bytes.h"
#include "agent/base/key_types.h"

namespace keyagent::openssl {

// r‖s of fixed width (IEEE P1363) as DER ECDSA-Sig-Value (RFC 3279 §2.2.3).
Bytes ecdsa_der(const Bytes& signature);

// The DER AlgorithmIdentifier of RFC 4055, 5758 and 8410 that goes into certificates and requests.
Bytes algorithm_identifier(SignatureAlgorithm algorithm);

}  // namespace keyagent::openssl
