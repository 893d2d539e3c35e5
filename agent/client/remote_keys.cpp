// SPDX-License-Identifier: Apache-2.0
#include "agent/client/remote_keys.h"

#include "agent/base/error.h"
#include "agent/wire/messages.h"

namespace keyagent::client {
namespace {

[[noreturn]] void throw_not_offered(const Kid& kid) {
  throw Error(Code::kUnsupported,
              "the agent does not release content keys; ask it to open or seal the whole envelope",
              kid.text());
}

template <typename T>
T known(std::optional<T> value, const std::string& text) {
  if (!value)
    throw Error(Code::kPeer,
                "the agent uses " + text + ", which this program does not support; update it");
  return *value;
}

PublicKeyInfo info_of(const wire::Key& key) {
  PublicKeyInfo info;
  info.kid = Kid(key.kid());
  info.name = key.name();
  info.algorithm = known(key_algorithm_of(key.algorithm()), key.algorithm());
  info.purpose = known(purpose_of(key.purpose()), key.purpose());
  info.accepts_cbc = key.accepts_cbc();
  info.envelope = known(envelope_algorithm_of(key.envelope()), key.envelope());
  info.spki.assign(key.spki().begin(), key.spki().end());
  return info;
}

}  // namespace

PublicKeyInfo RemoteKeys::find(const std::string& which) {
  wire::Request request;
  request.mutable_key_show()->set_key(which);
  return info_of(client_.call(std::move(request)).key_show().key());
}

PublicKeyInfo RemoteKeys::public_key(const Kid& kid) {
  return find(kid.text());
}

namespace {

Bytes signature_of(Client& client, const Kid& kid, SignatureAlgorithm algorithm,
                   wire::Request request) {
  request.mutable_sign()->set_key(kid.text());
  request.mutable_sign()->set_algorithm(std::string(name_of(algorithm)));
  const auto response = client.call(std::move(request));
  const std::string& signature = response.sign().signature();
  return Bytes(signature.begin(), signature.end());
}

// The secret of an answer; the answer's own bytes are wiped.
SecretBytes taken(wire::Response& response, const std::string& secret) {
  SecretBytes out(secret.begin(), secret.end());
  wire::wipe(response);
  return out;
}

}  // namespace

Bytes RemoteKeys::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  wire::Request request;
  request.mutable_sign()->set_input(input.data(), input.size());
  return signature_of(client_, kid, algorithm, std::move(request));
}

Bytes RemoteKeys::sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) {
  wire::Request request;
  request.mutable_sign()->set_message(message.data(), message.size());
  return signature_of(client_, kid, algorithm, std::move(request));
}

SecretBytes RemoteKeys::decrypt_cek(const Kid& kid, OaepHash, ByteView, std::size_t) {
  throw_not_offered(kid);
}

std::optional<SecretBytes> RemoteKeys::decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) {
  wire::Request request;
  auto& asked = *request.mutable_decrypt();
  asked.set_key(kid.text());
  asked.set_hash(hash == OaepHash::kSha1 ? "SHA-1" : "SHA-256");
  asked.set_ciphertext(ciphertext.data(), ciphertext.size());
  try {
    auto response = client_.call(std::move(request));
    return taken(response, response.decrypt().plaintext());
  } catch (const Error& error) {
    if (error.code() == Code::kInput) return std::nullopt;
    throw;
  }
}

SecretBytes RemoteKeys::agree(const Kid& kid, ByteView peer_point) {
  wire::Request request;
  request.mutable_agree()->set_key(kid.text());
  request.mutable_agree()->set_point(peer_point.data(), peer_point.size());
  auto response = client_.call(std::move(request));
  return taken(response, response.agree().secret());
}

WrappedCek RemoteKeys::wrap_cek(const Kid& kid, const SecretBytes&) {
  throw_not_offered(kid);
}

SecretBytes RemoteKeys::unwrap_cek(const Kid& kid, const WrappedCek&, std::size_t) {
  throw_not_offered(kid);
}

}  // namespace keyagent::client
