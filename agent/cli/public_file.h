#pragma once
// A public key that a person has in a file.

#include <string>

#include "agent/base/key_ops.h"

namespace keyagent::cli {

// PEM ("BEGIN PUBLIC KEY") or JWK. From PEM the envelope algorithm is the default of its kind.
// Throws Error{kUsage}.
PublicKeyInfo read_public_file(const std::string& name);

}  // namespace keyagent::cli
