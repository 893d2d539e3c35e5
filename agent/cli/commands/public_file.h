// SPDX-License-Identifier: Apache-2.0
#pragma once
// A public key that a person has in a file.

#include <string>

#include "agent/base/key_ops.h"

namespace keyagent::cli {

// `purpose`: what the key is to do, kTransport to seal to it or kSign to verify with it; PEM, DER
// and a JWK without "use" do not say it. The rule, in this order: text that starts with "{" is a
// JWK; a line "-----BEGIN PUBLIC KEY-----" is a key in PEM; DER of a SubjectPublicKeyInfo is one
// too; everything else is read as certificates (pki/certificate_file.h), of which the one that
// issued no other is meant. A byte order mark and white space around text are ignored. Without
// "alg" the envelope algorithm is the default of its kind. Throws Error{kUsage}.
PublicKeyInfo read_public_file(const std::string& name, Purpose purpose);

}  // namespace keyagent::cli
