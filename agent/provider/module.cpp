// SPDX-License-Identifier: Apache-2.0
// keyagent.so: the provider that other programs load. It uses the agent's socket, and has no PIN
// and no PKCS#11.

#include "agent/base/error.h"
#include "agent/client/client.h"
#include "agent/openssl/provider.h"
#include "agent/provider/remote_backend.h"

namespace {

// A provider that does not load stops its program: with several agents, the first use of a key
// names the socket that is missing.
std::filesystem::path socket_of(const std::string& given) {
  try {
    return keyagent::client::socket_path(given);
  } catch (const keyagent::Error&) {
    return "/run/keyagent/agent.sock";
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int OSSL_provider_init(
    const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in, const OSSL_DISPATCH** out,
    void** context) {
  return keyagent::openssl::start_provider(handle, in, out, context, [](const auto& options) {
    return std::make_shared<keyagent::provider::RemoteBackend>(socket_of(options.socket),
                                                               options.survive_chroot);
  });
}
