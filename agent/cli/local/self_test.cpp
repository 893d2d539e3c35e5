// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/local/self_test.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/client/remote_keys.h"
#include "agent/envelope/envelope.h"
#include "agent/wire/messages.h"

namespace keyagent::cli {
namespace {

constexpr const char *kSignKey = "setup-test-sign", *kOpenKey = "setup-test-open";

std::string create_test_key(Session& session, const char* name, const char* purpose,
                            const char* algorithm) {
  wire::Request request;
  request.mutable_key_create()->set_name(name);
  request.mutable_key_create()->set_purpose(purpose);
  request.mutable_key_create()->set_algorithm(algorithm);
  return session.call(request).key_create().key().kid();
}

void destroy_test_key(Session& session, const std::string& kid) {
  wire::Request request;
  request.mutable_key_destroy()->set_key(kid);
  request.mutable_key_destroy()->set_confirm_kid(kid);
  request.mutable_key_destroy()->set_reason("the self-test of keyagent setup is done");
  session.call(request);
}

void sign_and_verify(Session& session, const std::string& kid) {
  client::RemoteKeys keys(session.agent());
  const auto info = keys.find(kid);
  const Bytes digest = sha256(as_bytes("keyagent setup"));
  const auto signature = keys.sign(info.kid, SignatureAlgorithm::kEs256, digest);
  if (!envelope::verify_signature(info.spki, SignatureAlgorithm::kEs256, digest, signature))
    throw Error(Code::kIntegrity,
                "the self-test failed: a signature of the token does not verify; run: keyagent "
                "token probe, to find where the token differs from its profile",
                kid);
}

void seal_and_open(Session& session, const std::string& kid) {
  const auto info = client::RemoteKeys(session.agent()).find(kid);
  const SecretBytes secret = random_secret(32);
  const Bytes sealed =
      envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm, secret, std::nullopt);
  wire::Request request;
  request.mutable_open()->set_envelope(sealed.data(), sealed.size());
  request.mutable_open()->set_key(kid);
  auto response = session.call(request);
  const bool same = equal_secret(as_bytes(response.open().plaintext()), secret);
  wire::wipe(response);
  if (!same)
    throw Error(Code::kIntegrity, "the self-test failed: the opened secret is not the sealed one",
                kid);
}

}  // namespace

// Algorithms that every profile has.
void self_test(Session& session) {
  const auto signs = create_test_key(session, kSignKey, "sign", "ec-p256");
  sign_and_verify(session, signs);
  const auto opens = create_test_key(session, kOpenKey, "transport", "rsa-2048");
  seal_and_open(session, opens);
  destroy_test_key(session, signs);
  destroy_test_key(session, opens);
}

}  // namespace keyagent::cli
