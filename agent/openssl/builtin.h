// SPDX-License-Identifier: Apache-2.0
#pragma once
// The provider inside this program: for the agent's own TLS, without a module and openssl.cnf.

#include <openssl/types.h>

#include <memory>

#include "agent/openssl/backend.h"

namespace keyagent::openssl {

// Loads it into `library` under the name "keyagent". Keys found in that library context hold the
// backend: unload the provider after the last of them. Throws Error{kInternal}.
OSSL_PROVIDER* load_builtin(OSSL_LIB_CTX* library, std::shared_ptr<Backend> backend);

}  // namespace keyagent::openssl
