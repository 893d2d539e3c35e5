// SPDX-License-Identifier: Apache-2.0
#pragma once
// The certificates of the link, parsed and verified before they are stored, with agent/pki: an
// invalid certificate from the instance is Error{kIntegrity}. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/key_ops.h"
#include "agent/pki/certificate_file.h"

namespace keyagent::link {

using Leaf = pki::CertificateFacts;

// PEM to DER, in their order. Throws Error{kIntegrity} when there is none, or something else.
std::vector<Bytes> certificates_of_pem(std::string_view pem);
std::string pem_of_certificates(const std::vector<Bytes>& chain);
// The revocation list in the PEM, signed by `ca`. Throws Error{kIntegrity}.
Bytes revocation_list_of_pem(std::string_view pem, ByteView ca);
Leaf leaf_of(ByteView certificate);

// base64url of the SHA-256 of its SubjectPublicKeyInfo: what an operator compares.
std::string fingerprint_of(ByteView certificate);
// A public key that signs. Throws Error{kIntegrity} for bytes that are none, or of another kind.
PublicKeyInfo signing_key_of(ByteView spki);

// What of `sent` leads from the key `spki` to `ca` at `now`, leaf first. Throws Error{kIntegrity}
// unless the leaf is for TLS clients and names the agent, and nothing else.
std::vector<Bytes> require_ours(const std::vector<Bytes>& sent, ByteView ca, ByteView spki,
                                const std::string& agent, WallTime now);

}  // namespace keyagent::link
