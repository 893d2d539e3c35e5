// SPDX-License-Identifier: Apache-2.0
#pragma once
// The OpenSSL 3 provider's core over a Backend: provider(7), provider-base(7).

#include <openssl/core.h>

#include <functional>
#include <memory>
#include <string>

#include "agent/openssl/backend.h"

namespace keyagent::openssl {

// Parameters of the provider's section in openssl.cnf.
struct ProviderOptions {
  std::string socket;          // keyagent-socket; may be empty
  bool survive_chroot = true;  // keyagent-chroot: yes or no
};
using MakeBackend = std::function<std::shared_ptr<Backend>(const ProviderOptions& options)>;

// What OSSL_provider_init does (provider-base(7)): 1, with the dispatch table and the context, or
// 0.
int start_provider(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in,
                   const OSSL_DISPATCH** out, void** context, const MakeBackend& make_backend);

}  // namespace keyagent::openssl
