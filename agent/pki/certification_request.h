// SPDX-License-Identifier: Apache-2.0
#pragma once
// PKCS#10 certification requests (RFC 2986) for keys with an external signer.

#include <functional>
#include <string>
#include <vector>

#include "agent/base/bytes.h"

namespace keyagent::pki {

struct RequestedName {
  // "/C=DE/O=Example/CN=www.example.org", values in UTF-8; '/', '+' and '\' in a value are written
  // "\/", "\+", "\\"; "+CN=…" joins a field to the one before it. Empty: only the alternative names
  // are used.
  std::string subject;
  // "DNS:www.example.org", "IP:192.0.2.1", "email:ops@example.org", "URI:spiffe://…" (RFC 5280
  // §4.2.1.6).
  std::vector<std::string> alternative_names;
};

// What signs: the AlgorithmIdentifier, and the signature of a message in the form that X.509 wants.
struct RequestSigner {
  Bytes algorithm;  // DER
  std::function<Bytes(ByteView message)> sign;
};

// The request in DER, verified with its own key. Throws Error{kUsage} with the problem of an
// invalid name, Error{kIntegrity} when the signature does not verify, and what `sign` throws.
Bytes make_request(ByteView spki, const RequestedName& name, const RequestSigner& signer);

// "-----BEGIN CERTIFICATE REQUEST-----" … of one in DER.
std::string request_pem(ByteView der);

}  // namespace keyagent::pki
