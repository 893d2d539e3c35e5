// SPDX-License-Identifier: Apache-2.0
#include "agent/openssl/builtin.h"

#include <openssl/err.h>
#include <openssl/provider.h>

#include "agent/base/error.h"
#include "agent/openssl/provider.h"

namespace keyagent::openssl {
namespace {

// OpenSSL's entry point takes no user argument, but it is called in the loading thread.
thread_local std::shared_ptr<Backend> loading;

int start(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in, const OSSL_DISPATCH** out,
          void** context) {
  if (!loading) return 0;  // another caller's OSSL_PROVIDER_load of this name
  return start_provider(handle, in, out, context, [](const ProviderOptions&) { return loading; });
}

}  // namespace

OSSL_PROVIDER* load_builtin(OSSL_LIB_CTX* library, std::shared_ptr<Backend> backend) {
  constexpr const char* kName = "keyagent";
  loading = std::move(backend);
  OSSL_PROVIDER* provider = OSSL_PROVIDER_add_builtin(library, kName, start) == 1
                                ? OSSL_PROVIDER_load(library, kName)
                                : nullptr;
  loading.reset();
  if (provider != nullptr) return provider;
  ERR_clear_error();
  throw Error(Code::kInternal, "OpenSSL does not load the agent's provider into this program");
}

}  // namespace keyagent::openssl
