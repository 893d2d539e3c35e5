// SPDX-License-Identifier: Apache-2.0
// Decrypt and agree: the two operations that return what comes out of a transport key, for programs
// that parse envelopes themselves (openssl cms, through keyagent.so). Each needs a separate action:
// a caller that may use them can open every envelope of the key and use it as a decryption oracle
// (RELIABILITY 101 to 107).

#include "agent/base/encoding.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

// An auth or sign key that also decrypted would be one key for two things (RELIABILITY 98).
void require_transport(const keys::KeyRecord& key, bool fits, const std::string& what) {
  if (key.purpose != Purpose::kTransport) {
    throw Error(Code::kDenied,
                "key " + key.name.text() + " is for " + std::string(name_of(key.purpose)) +
                    " and does not release what it decrypts; create one with --purpose transport",
                key.kid.text());
  }
  if (!fits) {
    throw Error(
        Code::kUsage,
        "key " + key.name.text() + " is " + std::string(name_of(key.algorithm)) + ": " + what,
        key.kid.text());
  }
}

OaepHash hash_named(const std::string& name) {
  if (name == "SHA-1") return OaepHash::kSha1;
  if (name.empty() || name == "SHA-256") return OaepHash::kSha256;
  throw Error(Code::kUsage,
              "RSA-OAEP supports SHA-256 and SHA-1, not '" + escape_controls(name) + "'");
}

}  // namespace

// Every invalid ciphertext returns the same INPUT, answered at the same interval as a failed open
// and counted as one.
void run_decrypt(Call& call) {
  const auto& key = *call.key;
  const auto& request = call.request.decrypt();
  require_transport(key, is_rsa(key.algorithm),
                    "it supports key agreement (ECDH) only, not decryption");
  const OaepHash hash = hash_named(request.hash());
  require_budget(call);
  const auto plaintext =
      call.state.services.keys.ops().decrypt(key.kid, hash, as_bytes(request.ciphertext()));
  if (!plaintext) throw_input_error();
  call.detail = hash == OaepHash::kSha1 ? "RSA-OAEP" : "RSA-OAEP-256";
  auto& reply = *call.response.mutable_decrypt();
  reply.set_plaintext(plaintext->data(), plaintext->size());
  reply.set_kid(key.kid.text());
}

void run_agree(Call& call) {
  const auto& key = *call.key;
  require_transport(key, ec_field_size(key.algorithm) > 0,
                    "it supports decryption only, not key agreement");
  require_budget(call);
  const SecretBytes secret =
      call.state.services.keys.ops().agree(key.kid, as_bytes(call.request.agree().point()));
  call.detail = "ECDH";
  auto& reply = *call.response.mutable_agree();
  reply.set_secret(secret.data(), secret.size());
  reply.set_kid(key.kid.text());
}

}  // namespace keyagent::gate
