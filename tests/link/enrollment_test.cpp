// SPDX-License-Identifier: Apache-2.0
// How an agent becomes known to an instance, and what it does not believe.

#include "tests/link/link_fixture.h"

namespace keyagent::link {
namespace {

TEST_F(LinkTest, T6_TokenEnrollsAndTheInstanceAcknowledgesTheKey) {
  const auto enrolled = enroll(instance_.make_token());
  ASSERT_FALSE(enrolled.has_failure()) << enrolled.failure().text();
  EXPECT_TRUE(enrolled.enroll().changed());
  ASSERT_TRUE(reaches("connected"));
  EXPECT_EQ(status().auth_kid(), instance_.auth_kid("web1"));
  EXPECT_EQ(status().transport_kid(), instance_.transport_kid("web1"));
  // Again, as a script that is run twice does.
  const auto again = enroll(instance_.fingerprint());
  EXPECT_FALSE(again.has_failure()) << again.failure().text();
  EXPECT_FALSE(again.enroll().changed());
}

TEST_F(LinkTest, T7_StatusShowsPeerVersionSerialsExpiriesKidAndHeartbeat) {
  connect();
  ASSERT_TRUE(eventually([this] { return instance_.heartbeats() > 1; }));
  const auto link = status();
  EXPECT_THAT(link.peer(), HasSubstr("127.0.0.1:"));
  EXPECT_EQ(link.tls_version(), "TLSv1.3");
  for (const auto& text : {link.serial(), link.peer_serial(), link.peer_kid(), link.cipher()})
    EXPECT_FALSE(text.empty()) << link.DebugString();
  EXPECT_GT(parse_rfc3339(link.not_after()), system_clock().now());
  EXPECT_GT(parse_rfc3339(link.peer_not_after()), system_clock().now());
  EXPECT_LE(parse_rfc3339(link.last_heartbeat()), system_clock().now());
  EXPECT_TRUE(link.code().empty());
  EXPECT_FALSE(LinkStore(hsm_.folder() / "state").get()->crl.empty());
}

TEST_F(LinkTest, R2_InstanceWithAnotherCaThanTheTokenNamesIsRefused) {
  auto token = instance_.make_token();
  token.replace(4, 43, to_base64url(random_bytes(32)));
  const auto refused = enroll(token);
  EXPECT_EQ(refused.failure().code(), wire::PEER_KEY) << refused.failure().text();
  EXPECT_TRUE(trusts_nobody());
  EXPECT_EQ(instance_.requests("/v1/enrolments"), 0u);
}

TEST_F(LinkTest, R2_TokenIsGoodOnce) {
  const auto token = instance_.make_token();
  ASSERT_FALSE(enroll(token).has_failure());
  wire::Request leave;
  leave.mutable_leave();
  ASSERT_FALSE(ask(kAdmin, leave).has_failure());
  EXPECT_EQ(enroll(token).failure().code(), wire::DENIED);
  EXPECT_TRUE(trusts_nobody());
}

TEST_F(LinkTest, R2_R3_WithoutATokenItWaitsForAnApprovalAndHasNoCredential) {
  instance_.put_credential("db-main", "s3cret");
  const auto enrolled = enroll(instance_.fingerprint());
  ASSERT_FALSE(enrolled.has_failure()) << enrolled.failure().text();
  EXPECT_EQ(enrolled.enroll().link().state(), "pending");
  EXPECT_EQ(enrolled.enroll().link().auth_kid(), instance_.auth_kid("web1"));
  ASSERT_TRUE(eventually([this] { return instance_.requests("/v1/enrolments") > 4; }));
  EXPECT_EQ(status().state(), "pending");
  EXPECT_EQ(get(kDatabase, "db-main").failure().code(), wire::KEY_STATE);
  EXPECT_EQ(instance_.requests("/v1/credentials"), 0u);
  instance_.approve("web1");
  ASSERT_TRUE(reaches("connected"));
  EXPECT_EQ(value("db-main"), "s3cret");
}

TEST_F(LinkTest, R2_PendingEnrollmentContinuesAfterARestart) {
  ASSERT_FALSE(enroll(instance_.fingerprint()).has_failure());
  link_->stop();
  open_link();
  instance_.approve("web1");
  link_->start();
  EXPECT_TRUE(reaches("connected"));
}

TEST_F(LinkTest, R2_RejectedEnrollmentIsOver) {
  ASSERT_FALSE(enroll(instance_.fingerprint()).has_failure());
  instance_.reject("web1");
  // The state changes first, then the event is reported.
  EXPECT_TRUE(eventually([this] { return told("link.rejected") && trusts_nobody(); }));
  EXPECT_EQ(status().state(), "not_enrolled");
  EXPECT_EQ(status().code(), "DENIED");
}

struct Lie {
  const char* name;
  std::atomic<bool> test::Mischief::*told;
  bool by_token;
};

class EnrollmentLie : public LinkTest, public testing::WithParamInterface<Lie> {};

TEST_P(EnrollmentLie, R7_IsNotBelievedAndNothingIsKept) {
  instance_.mischief.*GetParam().told = true;
  const auto refused =
      enroll(GetParam().by_token ? instance_.make_token() : instance_.fingerprint());
  EXPECT_EQ(refused.failure().code(), wire::INTEGRITY) << refused.failure().text();
  EXPECT_TRUE(trusts_nobody());
  EXPECT_EQ(status().state(), "not_enrolled");
}

INSTANTIATE_TEST_SUITE_P(
    Instance, EnrollmentLie,
    testing::Values(Lie{"other_ca", &test::Mischief::other_ca, true},
                    Lie{"certificate_for_another_key", &test::Mischief::other_key, true},
                    Lie{"certificate_for_another_id", &test::Mischief::other_name, true},
                    Lie{"challenge_for_another_key", &test::Mischief::foreign_challenge, true},
                    Lie{"credential_as_challenge", &test::Mischief::credential_challenge, true},
                    Lie{"approval_of_another_key", &test::Mischief::other_fingerprint, false}),
    [](const auto& each) { return std::string(each.param.name); });

TEST_F(LinkTest, R14_IdThatTheInstanceKnowsWithAnotherKeyIsAMatterOfIntegrity) {
  create("elsewhere", "auth");
  wire::Request request;
  auto& enroll_request = *request.mutable_enroll();
  enroll_request.set_url(instance_.url());
  enroll_request.set_token(instance_.make_token());
  enroll_request.set_auth_key("elsewhere");
  ASSERT_FALSE(ask(kAdmin, request).has_failure());
  wire::Request leave;
  leave.mutable_leave();
  ASSERT_FALSE(ask(kAdmin, leave).has_failure());
  const auto refused = enroll(instance_.make_token());
  EXPECT_EQ(refused.failure().code(), wire::INTEGRITY);
  EXPECT_EQ(exit_code(Code::kIntegrity), 6);
  EXPECT_THAT(refused.failure().text(), HasSubstr("another key under the id web1"));
}

TEST_F(LinkTest, R15_LostKeysAreReplacedByOneCommand) {
  connect();
  const auto lost = status();
  for (const char* name : {"identity", "credentials"}) vault_.destroy(keys_.find(name).cka_id);
  keys_.reconcile();
  EXPECT_EQ(enroll(instance_.make_token(), {}, false).enroll().changed(), false);
  const auto replaced = enroll(instance_.make_token(), {}, true);
  ASSERT_FALSE(replaced.has_failure()) << replaced.failure().text();
  ASSERT_TRUE(eventually([&] {
    const auto now = status();
    return now.state() == "connected" && now.auth_kid() != lost.auth_kid();
  })) << status().DebugString();
  EXPECT_EQ(status().auth_kid(), instance_.auth_kid("web1"));
  EXPECT_NE(status().transport_kid(), lost.transport_kid());
}

TEST_F(LinkTest, R15_AReplacedAgentHasTheAlgorithmsOfBeforeAndAnAuditKeyThatSigns) {
  const auto audit = create("audit", "audit", "ec-p384");
  connect();
  for (const char* name : {"identity", "credentials", "audit"})
    vault_.destroy(keys_.find(name).cka_id);
  keys_.reconcile();
  ASSERT_FALSE(keys_.find("audit").usable);
  const auto replaced = enroll(instance_.make_token(), {}, true);
  ASSERT_FALSE(replaced.has_failure()) << replaced.failure().text();
  EXPECT_EQ(keys_.find("credentials").algorithm, KeyAlgorithm::kEcP256) << "not the default";
  EXPECT_TRUE(told("rekey.planned", audit.kid())) << "the break is in the audit log";
  runner_of_link_->run(0ms);
  const auto fresh = keys_.find("audit");
  EXPECT_TRUE(fresh.usable);
  EXPECT_EQ(fresh.state, KeyState::kActive);
  EXPECT_EQ(fresh.algorithm, KeyAlgorithm::kEcP384);
  EXPECT_NO_THROW(keys_.ops().sign(fresh.kid, SignatureAlgorithm::kEs384, Bytes(48, 'c')));
  EXPECT_EQ(keys_.find(audit.kid()).state, KeyState::kDeactivated) << "its checkpoints verify";
}

TEST_F(LinkTest, EnrollmentElsewhereIsRefusedUntilTheFirstIsLeft) {
  connect();
  test::TestInstance other;
  EXPECT_EQ(enroll(other.make_token(), other.url()).failure().code(), wire::EXISTS);
  EXPECT_EQ(status().url(), instance_.url());
}

TEST_F(LinkTest, StateFileHoldsNoTokenAndNoAnswer) {
  const auto token = instance_.make_token();
  ASSERT_FALSE(enroll(token).has_failure());
  const Bytes kept = read_file(hsm_.folder() / "state/link.json");
  EXPECT_THAT(std::string(as_text(kept)), Not(HasSubstr(token.substr(48))));
  EXPECT_EQ(std::filesystem::status(hsm_.folder() / "state/link.json").permissions(),
            std::filesystem::perms(0600));
  for (const auto& line : audit_lines()) EXPECT_THAT(line, Not(HasSubstr(token.substr(48))));
}

}  // namespace
}  // namespace keyagent::link
