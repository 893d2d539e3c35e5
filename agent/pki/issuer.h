// SPDX-License-Identifier: Apache-2.0
#pragma once
// X.509 v3 certificates and CRLs (RFC 5280) made with an external signer: the CA of an instance,
// whose key is in a token.

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/pki/certificate_file.h"
#include "agent/pki/certification_request.h"

namespace keyagent::pki {

struct Validity {
  WallTime not_before, not_after;  // whole seconds are kept
};

enum class Use { kClient, kServer };

// A self-signed CA certificate in DER: CA:TRUE, pathlen 0, keyCertSign and cRLSign, SKI.
// `subject` as in RequestedName. Throws as make_request() does.
Bytes make_authority(ByteView spki, const std::string& subject, const Validity& validity,
                     const RequestSigner& signer);

// Is this the CA certificate that the key made for itself: CA:TRUE, issued by its own subject, and
// signed with the key?
bool is_own_authority(ByteView certificate, ByteView spki);

struct Certified {
  Bytes spki;
  std::string subject;                         // "/CN=web1"
  std::vector<std::string> alternative_names;  // "DNS:web1"; one at least
  Use use = Use::kClient;
  Validity validity;
  std::string serial;  // hex, at most 20 bytes, positive; see new_serial()
};

// An end certificate in DER: CA:FALSE, digitalSignature, one extended key usage, SAN, SKI, AKI.
// `authority`: the issuer's certificate in DER, whose key `signer` has.
Bytes issue(ByteView authority, const Certified& certified, const RequestSigner& signer);

// 16 random bytes in lower-case hex, positive, not zero.
std::string new_serial();

// Is it one of RFC 5280 §5.3.1 that make_crl() writes?
bool is_revocation_reason(const std::string& reason);

struct Revoked {
  std::string serial;  // hex
  WallTime when;
  std::string reason;  // "keyCompromise", "superseded", "cessationOfOperation", "unspecified", …
};
// A CRL in DER, version 2, with AKI and CRL number. Throws Error{kUsage} for an unknown reason.
Bytes make_crl(ByteView authority, const std::vector<Revoked>& revoked, std::uint64_t number,
               const Validity& validity, const RequestSigner& signer);

// The public key (DER SubjectPublicKeyInfo) of a PKCS#10 request in PEM or DER whose signature
// verifies: anyone who made it has the private key. Throws Error{kInput} for what is none, and
// Error{kIntegrity} when it does not verify. At most 64 KiB.
Bytes key_of_request(std::string_view request);

}  // namespace keyagent::pki
