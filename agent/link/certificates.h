#pragma once
// The certificates of the link, read and judged before they are kept. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"
#include "agent/base/key_ops.h"

namespace keyagent::link {

// PEM to DER, in their order. Throws Error{kIntegrity} when there is none, or something else.
std::vector<Bytes> certificates_of_pem(std::string_view pem);
std::string pem_of_certificates(const std::vector<Bytes>& chain);
// The revocation list in the PEM, signed by `ca`. Throws Error{kIntegrity}.
Bytes revocation_list_of_pem(std::string_view pem, ByteView ca);
std::string pem_of_request(ByteView request);

struct Leaf {
  Bytes spki;
  std::string serial;  // lower-case hex
  std::vector<std::string> dns_names;
  WallTime not_before, not_after;
};
Leaf leaf_of(ByteView certificate);

// base64url of the SHA-256 of its SubjectPublicKeyInfo: what an operator compares.
std::string fingerprint_of(ByteView certificate);
// A public key that signs. Throws Error{kIntegrity} for bytes that are none, or of another kind.
PublicKeyInfo signing_key_of(ByteView spki);

// Throws Error{kIntegrity} unless `chain` (leaf first) leads to `ca` at `now`, is for TLS clients,
// holds the key `spki` and names the agent.
void require_ours(const std::vector<Bytes>& chain, ByteView ca, ByteView spki,
                  const std::string& agent, WallTime now);

}  // namespace keyagent::link
