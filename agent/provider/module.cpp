// SPDX-License-Identifier: Apache-2.0
// keyagent.so: the provider that other programs load. It uses the agent's socket, and has no PIN
// and no PKCS#11.

#include "agent/client/client.h"
#include "agent/openssl/provider.h"
#include "agent/provider/remote_backend.h"

extern "C" __attribute__((visibility("default"))) int OSSL_provider_init(
    const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in, const OSSL_DISPATCH** out,
    void** context) {
  return keyagent::openssl::start_provider(handle, in, out, context, [](const auto& options) {
    return std::make_shared<keyagent::provider::RemoteBackend>(
        keyagent::client::socket_path(options.socket), options.survive_chroot);
  });
}
