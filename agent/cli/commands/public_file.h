// SPDX-License-Identifier: Apache-2.0
#pragma once
// A public key that a person has in a file.

#include <string>

#include "agent/base/key_ops.h"

namespace keyagent::cli {

// `purpose`: kTransport to seal to the key, or kSign to verify with it; PEM, DER and a JWK without
// "use" do not include the purpose. The format is detected in this order: text that starts with "{"
// is a JWK; a line "-----BEGIN PUBLIC KEY-----" is a key in PEM; then DER of a
// SubjectPublicKeyInfo; everything else is read as certificates (pki/certificate_file.h), and the
// one that issued no other is used. A byte order mark and white space around text are ignored.
// Without "alg" the envelope algorithm is the default of the key type. Throws Error{kUsage}.
PublicKeyInfo read_public_file(const std::string& name, Purpose purpose);

}  // namespace keyagent::cli
