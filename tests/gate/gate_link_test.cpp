// SPDX-License-Identifier: Apache-2.0
// What the link asks of the gate, and what callers ask of the link, without an instance.

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/envelope/challenge.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/pki/certification_request.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using ::testing::HasSubstr;

constexpr const char* kLinkPolicy = R"(
rules:
  - name: admin
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, status, audit, admin]
    who: {user: "1000"}
  - name: database
    allow: [credential, status]
    keys: ["db-*"]
    who: {user: "1001"}
)";

class GateLinkTest : private NoLink, public GateTest {
 protected:
  static constexpr std::uint32_t kDatabase = 1001;
  GateLinkTest() { policy_ = policy::parse_policy(kLinkPolicy, "policy.yml"); }

  Gate& linked() {
    if (gate_) return *gate_;
    gate_ = std::make_unique<Gate>(options_, services(*this), timer_.timer());
    return *gate_;
  }
  void credential(const std::string& name, wire::CredentialGetReply& reply) override {
    asked_.push_back(name);
    reply.set_value("s3cret");
    reply.mutable_credential()->set_version(7);
  }
  void credentials(wire::CredentialListReply& reply) override {
    for (const char* name : {"db-main", "mail"}) reply.add_credentials()->set_name(name);
  }
  void enroll(const wire::EnrollRequest& request, wire::EnrollReply& reply) override {
    reply.mutable_link()->set_agent(request.agent());
    reply.mutable_link()->set_state("pending");
  }

  wire::Response as_agent(wire::Request request) {
    policy::Principal principal;
    principal.voucher = policy::Principal::Voucher::kInternal;
    principal.name = "link";
    auto asked = std::make_shared<Asked>();
    gate().handle(principal, std::move(request), asked);
    return asked->wait();
  }
  static PublicKeyInfo info_of(const keys::KeyRecord& key) {
    return {key.kid, key.name.text(), key.algorithm, key.purpose, key.envelope, key.spki};
  }
  static wire::Request challenge(const keys::KeyRecord& key, const SecretBytes& secret) {
    return prove(key, envelope::seal_challenge(info_of(key), secret));
  }
  static wire::Request prove(const keys::KeyRecord& key, const Bytes& sealed) {
    wire::Request request;
    request.mutable_prove()->set_key(key.kid.text());
    request.mutable_prove()->set_challenge(sealed.data(), sealed.size());
    return request;
  }
  // The next generation of a key that is active: made, and no more.
  keys::KeyRecord staged(const std::string& name) {
    const auto rekey =
        keys_.begin_rekey({KeyName(name), std::nullopt, std::nullopt, keys::Span(0)}, {"test"});
    return keys_.find(keys_.make_next_key(rekey.id).new_kid.text());
  }
  static wire::Request get(const std::string& name) {
    wire::Request request;
    request.mutable_credential_get()->set_name(name);
    return request;
  }
  std::vector<std::string> asked_;
};

TEST_F(GateLinkTest, R7_StagedTransportKeyAnswersAChallengeAndOpensNothingElse) {
  create("credentials", "transport", "rsa-2048");
  const auto fresh = staged("credentials");
  const SecretBytes random = random_secret(32);
  const auto answered = as_agent(challenge(fresh, random));
  ASSERT_FALSE(answered.has_failure()) << answered.failure().text();
  EXPECT_TRUE(equal_secret(as_bytes(answered.prove().proof()), random));
  const auto opened =
      as_agent(open_request(challenge(fresh, random).prove().challenge(), fresh.kid.text()));
  EXPECT_EQ(opened.failure().code(), wire::KEY_STATE);
}

TEST_F(GateLinkTest, R4_WhatWasSealedAsSomethingElseIsNotAnsweredAsAChallenge) {
  create("credentials", "transport", "rsa-2048");
  const auto key = keys_.find("credentials");
  const std::string password = "correct horse battery staple !!!";
  const std::string words = "keyagent challenge 1\n";
  std::vector<SecretBytes> others{SecretBytes(password.begin(), password.end()), random_secret(32),
                                  random_secret(words.size() + 32)};
  for (const std::size_t size : {31, 33}) {
    SecretBytes misshapen(words.begin(), words.end());
    const auto rest = random_secret(size);
    misshapen.insert(misshapen.end(), rest.begin(), rest.end());
    others.push_back(misshapen);
  }
  for (const auto& secret : others) {
    const auto answered = as_agent(prove(
        key, envelope::seal_jwe(info_of(key), envelope::ContentEncryption::kA256Gcm, secret)));
    EXPECT_EQ(answered.failure().code(), wire::INPUT) << secret.size();
    EXPECT_TRUE(answered.prove().proof().empty());
  }
}

TEST_F(GateLinkTest, R7_ChallengeForAnotherKeyIsNotAnswered) {
  create("credentials", "transport", "rsa-2048");
  create("backup", "transport", "rsa-2048");
  auto request = challenge(keys_.find("backup"), random_secret(32));
  request.mutable_prove()->set_key(keys_.find("credentials").kid.text());
  EXPECT_EQ(as_agent(request).failure().code(), wire::INPUT);
}

TEST_F(GateLinkTest, StagedAuthKeySignsARequestForItselfAndNothingElse) {
  create("identity", "auth");
  const auto fresh = staged("identity");
  const auto sign = [&](ByteView message) {
    wire::Request request;
    request.mutable_prove()->set_key(fresh.kid.text());
    request.mutable_prove()->set_certification_request(message.data(), message.size());
    const auto answered = as_agent(request);
    if (answered.has_failure()) throw std::runtime_error(answered.failure().text());
    const auto raw = as_bytes(answered.prove().proof());
    return openssl::ecdsa_der(Bytes(raw.begin(), raw.end()));
  };
  const auto algorithm = openssl::algorithm_identifier(SignatureAlgorithm::kEs256);
  // make_request() verifies the signature.
  EXPECT_FALSE(pki::make_request(fresh.spki, {"/CN=web1", {}}, {algorithm, sign}).empty());
  const auto other = keys_.find("identity");
  EXPECT_THROW(pki::make_request(other.spki, {"/CN=web1", {}}, {algorithm, sign}),
               std::runtime_error);
}

TEST_F(GateLinkTest, OnlyTheAgentMayProveAKey) {
  create("credentials", "transport", "rsa-2048");
  const auto refused = ask(kAdmin, challenge(keys_.find("credentials"), random_secret(32)));
  EXPECT_EQ(refused.failure().code(), wire::DENIED);
  EXPECT_THAT(audit_lines().back(), HasSubstr("refused: prove"));
}

TEST_F(GateLinkTest, R5_CredentialIsGivenToCallersThatTheRuleNamesAndEveryUseIsRecorded) {
  linked();
  const auto given = ask(kDatabase, get("db-main"));
  EXPECT_EQ(given.credential_get().value(), "s3cret");
  EXPECT_THAT(audit_lines().back(), testing::AllOf(HasSubstr("credential.get"),
                                                   HasSubstr("db-main"), HasSubstr("version 7")));
  const auto refused = ask(kDatabase, get("mail"));
  EXPECT_EQ(refused.failure().code(), wire::DENIED);
  EXPECT_THAT(refused.failure().text(), HasSubstr("keyagent why credential mail"));
  EXPECT_THAT(audit_lines().back(),
              testing::AllOf(HasSubstr("refused: credential.get"), HasSubstr("mail")));
  EXPECT_EQ(ask(kAdmin, get("db-main")).failure().code(), wire::DENIED);
  EXPECT_THAT(asked_, testing::ElementsAre("db-main"));
}

TEST_F(GateLinkTest, ListShowsTheCredentialsThatTheCallerMayHave) {
  linked();
  wire::Request request;
  request.mutable_credential_list();
  const auto listed = ask(kDatabase, request).credential_list();
  ASSERT_EQ(listed.credentials_size(), 1);
  EXPECT_EQ(listed.credentials(0).name(), "db-main");
}

TEST_F(GateLinkTest, WhyNamesTheRuleOfACredentialEvenWhenAKeyHasItsName) {
  linked();
  create("db-main", "sign");
  wire::Request request;
  request.mutable_why()->set_action("credential");
  request.mutable_why()->set_key("db-main");
  const auto why = ask(kDatabase, request).why();
  EXPECT_TRUE(why.allowed());
  EXPECT_EQ(why.rule(), "database");
}

TEST_F(GateLinkTest, EnrollIsTheAdminsAndIsRecordedBeforeAndAfterWithoutItsToken) {
  linked();
  wire::Request request;
  request.mutable_enroll()->set_url("https://instance:8443");
  request.mutable_enroll()->set_token("ka1.x.canary-4711");
  EXPECT_EQ(ask(kDatabase, request).failure().code(), wire::DENIED);
  EXPECT_EQ(ask(kAdmin, request).enroll().link().state(), "pending");
  const auto lines = audit_lines();
  EXPECT_THAT(lines[lines.size() - 2], testing::AllOf(HasSubstr("enroll"), HasSubstr("begun")));
  EXPECT_THAT(lines.back(), HasSubstr("pending at https://instance:8443"));
  for (const auto& line : lines) EXPECT_THAT(line, testing::Not(HasSubstr("canary")));
}

TEST_F(GateLinkTest, AgentWithoutALinkAnswersUnsupported) {
  wire::Request request;
  request.mutable_link_status();
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::UNSUPPORTED);
}

}  // namespace
}  // namespace keyagent::gate
