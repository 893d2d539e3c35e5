// SPDX-License-Identifier: Apache-2.0
#include "agent/client/remote_keys.h"

#include "agent.h"

namespace keyagent::client {
namespace {

const std::string kKid = "0123456789abcdef0123456789abcdef";

void answer_as_agent(const wire::Request& request, wire::Response& response) {
  if (request.has_sign()) {
    response.mutable_sign()->set_signature(request.sign().key() + "|" + request.sign().algorithm() +
                                           "|" + request.sign().input());
  } else if (request.has_decrypt()) {
    if (request.decrypt().ciphertext() == "bad") {
      response.mutable_failure()->set_code(wire::INPUT);
    } else {
      response.mutable_decrypt()->set_plaintext(request.decrypt().hash() + "|" +
                                                request.decrypt().ciphertext());
    }
  } else if (request.has_agree()) {
    response.mutable_agree()->set_secret(request.agree().key() + "|" + request.agree().point());
  } else if (request.has_key_show()) {
    auto* key = response.mutable_key_show()->mutable_key();
    key->set_kid(kKid);
    key->set_name(request.key_show().key());
    key->set_algorithm(request.key_show().key() == "future" ? "ml-dsa-65" : "rsa-3072");
    key->set_purpose("transport");
    key->set_envelope("RSA-OAEP-256");
    key->set_spki("der");
  }
}

struct Remote {
  Agent agent{answer_as_agent};
  Client client{{agent.socket()}};
  RemoteKeys keys{client};
};

TEST(RemoteKeys, FindReturnsTheAgentsDescriptionOfTheKey) {
  Remote remote;
  const auto info = remote.keys.find("backup");
  EXPECT_EQ(info.kid.text(), kKid);
  EXPECT_EQ(info.name, "backup");
  EXPECT_EQ(info.algorithm, KeyAlgorithm::kRsa3072);
  EXPECT_EQ(info.purpose, Purpose::kTransport);
  EXPECT_EQ(info.envelope, EnvelopeAlgorithm::kRsaOaep256);
  EXPECT_EQ(info.spki, (Bytes{'d', 'e', 'r'}));
}

TEST(RemoteKeys, SignNamesKeyAlgorithmAndInput) {
  Remote remote;
  const auto signature =
      remote.keys.sign(Kid(kKid), SignatureAlgorithm::kEs256, as_bytes("digest"));
  EXPECT_EQ(as_text(signature), kKid + "|ES256|digest");
}

TEST(RemoteKeys, AlgorithmOfALaterAgentIsAClearError) {
  Remote remote;
  const auto error = error_of([&] { remote.keys.find("future"); });
  EXPECT_EQ(error.code(), Code::kPeer);
  EXPECT_THAT(error.what(), testing::HasSubstr("ml-dsa-65"));
}

TEST(RemoteKeys, DecryptAndAgreeAskTheAgentAndAFailureIsNothing) {
  Remote remote;
  const Kid kid(kKid);
  EXPECT_EQ(as_text(*remote.keys.decrypt(kid, OaepHash::kSha1, as_bytes("text"))), "SHA-1|text");
  EXPECT_EQ(as_text(*remote.keys.decrypt(kid, OaepHash::kSha256, as_bytes("text"))),
            "SHA-256|text");
  EXPECT_FALSE(remote.keys.decrypt(kid, OaepHash::kSha256, as_bytes("bad")));
  EXPECT_EQ(as_text(remote.keys.agree(kid, as_bytes("point"))), kKid + "|point");
}

TEST(RemoteKeys, ContentKeysAreNotOffered) {
  Remote remote;
  const Kid kid(kKid);
  const auto refuses = [](const std::function<void()>& body) {
    return error_of(body).code() == Code::kUnsupported;
  };
  EXPECT_TRUE(refuses([&] { remote.keys.decrypt_cek(kid, OaepHash::kSha1, {}, 32); }));
  EXPECT_TRUE(refuses([&] { remote.keys.wrap_cek(kid, SecretBytes(32)); }));
  EXPECT_TRUE(refuses([&] { remote.keys.unwrap_cek(kid, {}, 32); }));
  EXPECT_EQ(remote.agent.requests, 0);
}

}  // namespace
}  // namespace keyagent::client
