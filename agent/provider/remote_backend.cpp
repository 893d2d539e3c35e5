// SPDX-License-Identifier: Apache-2.0
#include "agent/provider/remote_backend.h"

#include <thread>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::provider {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 10s;  // for an agent that is being restarted
constexpr auto kPause = 20ms;

template <class Work>
auto patiently(Work&& work) -> decltype(work()) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    try {
      return work();
    } catch (const Error& error) {
      const bool passes = error.code() == Code::kPeer || error.code() == Code::kBusy ||
                          error.code() == Code::kTokenFault || error.code() == Code::kTokenAbsent;
      if (!passes || std::chrono::steady_clock::now() > until) throw;
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

RemoteBackend::RemoteBackend(const std::filesystem::path& socket, bool survive_chroot)
    : client_({socket, 10s, survive_chroot}), keys_(client_) {}

PublicKeyInfo RemoteBackend::find(const std::string& which) {
  return patiently([&] { return keys_.find(which); });
}

PublicKeyInfo RemoteBackend::find_by_id(const Bytes& cka_id) {
  const std::string wanted = to_hex(cka_id);
  wire::Request request;
  request.mutable_key_list();
  const auto response = patiently([&] { return client_.call(request); });
  for (const auto& key : response.key_list().keys()) {
    if (key.cka_id() == wanted) return find(key.kid());
  }
  throw Error(Code::kKeyNotPresent, "the agent has no visible key with the CKA_ID " + wanted);
}

std::vector<Bytes> RemoteBackend::certificates(const Kid& kid) {
  wire::Request request;
  request.mutable_certificate_show()->set_key(kid.text());
  const auto response = patiently([&] { return client_.call(request); });
  std::vector<Bytes> out;
  for (const auto& each : response.certificate_show().chain())
    out.emplace_back(each.der().begin(), each.der().end());
  return out;
}

Bytes RemoteBackend::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  return patiently([&] { return keys_.sign(kid, algorithm, input); });
}

Bytes RemoteBackend::sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) {
  return patiently([&] { return keys_.sign_message(kid, algorithm, message); });
}

std::optional<SecretBytes> RemoteBackend::decrypt(const Kid& kid, OaepHash hash,
                                                  ByteView ciphertext) {
  return patiently([&] { return keys_.decrypt(kid, hash, ciphertext); });
}

SecretBytes RemoteBackend::agree(const Kid& kid, ByteView peer_point) {
  return patiently([&] { return keys_.agree(kid, peer_point); });
}

PublicKeyInfo RemoteBackend::create(const std::string& name, KeyAlgorithm algorithm,
                                    const std::string& purpose) {
  wire::Request request;
  request.mutable_key_create()->set_name(name);
  request.mutable_key_create()->set_algorithm(std::string(name_of(algorithm)));
  request.mutable_key_create()->set_purpose(purpose);
  const auto response = client_.call(std::move(request));
  return find(response.key_create().key().kid());
}

}  // namespace keyagent::provider
