// SPDX-License-Identifier: Apache-2.0
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;

TEST_F(GateTest, R5_WrongUidIsRefusedWithOneAuditLineAndWhyNamesTheRule) {
  create("backup-1", "transport", "rsa-2048");
  const auto before = audit_lines().size();
  test::shim::reset_counts();
  const auto response = ask(kStranger, sign_request("backup-1"));
  EXPECT_EQ(response.failure().code(), wire::DENIED);
  const auto lines = audit_lines();
  ASSERT_EQ(lines.size(), before + 2) << "the mark of the first count, and one line";
  EXPECT_THAT(lines.back(), HasSubstr("\"what\":\"refused\",\"who\":\"uid 1003\""));
  EXPECT_THAT(lines.back(), HasSubstr("\"outcome\":\"DENIED\",\"rule\":\"default\""));
  EXPECT_EQ(test::shim::count("C_SignInit"), 0u);

  wire::Request why;
  why.mutable_why()->set_action("open");
  why.mutable_why()->set_key("backup-1");
  EXPECT_EQ(ask(kBackup, why).why().rule(), "backup");
  EXPECT_EQ(ask(kStranger, why).why().rule(), "default");
  why.mutable_why()->set_has_uid(true);
  why.mutable_why()->set_uid(kBackup);
  EXPECT_EQ(ask(kAdmin, why).why().rule(), "backup");
  EXPECT_EQ(ask(kStranger, why).failure().code(), wire::DENIED);
}

TEST_F(GateTest, UnknownAndInvisibleKeysGetTheSameAnswer) {
  create("hidden", "sign", "ec-p256");
  for (const auto uid : {kStranger, kBackup}) {
    auto hidden = ask(uid, sign_request("hidden")).failure();
    auto absent = ask(uid, sign_request("absent")).failure();
    EXPECT_EQ(hidden.code(), wire::DENIED);
    EXPECT_EQ(absent.code(), wire::DENIED);
    EXPECT_EQ(absent.kid(), hidden.kid());
    auto text = absent.text();
    for (auto at = text.find("absent"); at != text.npos; at = text.find("absent"))
      text.replace(at, 6, "hidden");
    EXPECT_EQ(text, hidden.text());
  }
  EXPECT_EQ(ask(kSigner, sign_request("absent")).failure().code(), wire::KEY_NOT_PRESENT);
}

TEST_F(GateTest, Fault098_KeysOfOtherPurposesDoNotSignWhatACallerChooses) {
  create("tls", "auth", "ec-p256");
  create("log", "audit", "ec-p256");
  create("data", "sign", "ec-p256");
  test::shim::reset_counts();
  EXPECT_EQ(ask(kAdmin, sign_request("tls")).failure().code(), wire::DENIED);
  EXPECT_EQ(ask(kAdmin, sign_request("log")).failure().code(), wire::DENIED);
  EXPECT_EQ(test::shim::count("C_SignInit"), 0u);
  EXPECT_EQ(ask(kAdmin, sign_request("data")).sign().signature().size(), 64u);
}

TEST_F(GateTest, Fault098_AnAuthKeySignsAHandshakeThatItIsShownWhole) {
  create("tls", "auth", "ec-p256");
  create("data", "sign", "ec-p256");
  wire::Request request;
  auto& sign = *request.mutable_sign();
  sign.set_key("tls");
  sign.set_message(std::string(64, ' ') + "TLS 1.3, server CertificateVerify" +
                   std::string(1, '\0') + std::string(32, 'h'));
  EXPECT_EQ(ask(kAdmin, request).sign().signature().size(), 64u);
  sign.set_message(std::string(64, ' ') + "TLS 1.3, server CertificateVerify" + "\n" +
                   std::string(32, 'h'));
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::DENIED);
  sign.set_key("data");
  EXPECT_EQ(ask(kAdmin, request).sign().signature().size(), 64u) << "a sign key signs any message";
  sign.set_message(std::string(129 * 1024, 'x'));
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::USAGE);
}

TEST_F(GateTest, SignChecksAlgorithmAndSizeOfTheDigest) {
  create("data", "sign", "ec-p256");
  auto request = sign_request("data");
  request.mutable_sign()->set_input("short");
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::USAGE);
  request = sign_request("data");
  request.mutable_sign()->set_algorithm("PS256");
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::USAGE);
  request.mutable_sign()->set_algorithm("ES256");
  EXPECT_EQ(ask(kAdmin, request).sign().algorithm(), "ES256");
}

TEST_F(GateTest, ListAndStatusShowOnlyWhatTheCallerMaySee) {
  policy_ = policy::parse_policy(std::string(kPolicy) + R"(
  - name: watcher
    allow: [status, public]
    keys: ["backup-*"]
    who: {user: "1004"}
)",
                                 "policy.yml");
  constexpr std::uint32_t kWatcher = 1004;
  create("backup-1", "transport", "rsa-2048");
  create("data", "sign", "ec-p256");
  const auto names = [](const auto& keys) {
    std::vector<std::string> out;
    for (const auto& key : keys) out.push_back(key.name());
    return out;
  };
  wire::Request list, status;
  list.mutable_key_list();
  status.mutable_status();
  const auto listed = [&](std::uint32_t uid) { return names(ask(uid, list).key_list().keys()); };
  EXPECT_THAT(listed(kAdmin), testing::UnorderedElementsAre("backup-1", "data"));
  EXPECT_THAT(listed(kSigner), testing::UnorderedElementsAre("backup-1", "data"));
  EXPECT_THAT(listed(kBackup), testing::IsEmpty()) << "opening is not seeing";
  EXPECT_THAT(listed(kWatcher), testing::ElementsAre("backup-1"));
  EXPECT_EQ(ask(kStranger, list).failure().code(), wire::DENIED);
  const auto reply = ask(kAdmin, status).status();
  EXPECT_EQ(reply.token().state(), "up");
  EXPECT_THAT(names(reply.keys()), testing::UnorderedElementsAre("backup-1", "data"));
  EXPECT_THAT(names(ask(kWatcher, status).status().keys()), testing::ElementsAre("backup-1"));
  EXPECT_EQ(ask(kStranger, status).failure().code(), wire::DENIED);
  // Neither its name nor its kid reveals that the key exists.
  for (const auto& which : {std::string("data"), keys_.find("data").kid.text()}) {
    wire::Request show;
    show.mutable_key_show()->set_key(which);
    EXPECT_EQ(ask(kWatcher, show).failure().code(), wire::DENIED) << which;
  }
}

// An attacker who controls a caller with every right cannot get a signature by the audit key.
TEST_F(GateTest, Fault143_TheAuditKeySignsNothingThatACallerAsksFor) {
  create("log", "audit", "ec-p256");
  test::shim::reset_counts();
  std::vector<wire::Request> asked(6);
  asked[0] = sign_request("log");
  asked[1].mutable_sign()->set_key("log");
  asked[1].mutable_sign()->set_message("{\"seq\":1,\"root\":\"forged\"}");
  asked[2].mutable_sign_statement()->set_key("log");
  asked[2].mutable_sign_statement()->mutable_text()->set_type("keyagent-checkpoint+jws");
  asked[2].mutable_sign_statement()->mutable_text()->set_payload("{\"seq\":1}");
  asked[3].mutable_prove()->set_key("log");
  asked[3].mutable_prove()->set_certification_request("any");
  asked[4].mutable_agree()->set_key("log");
  asked[5] = open_request("anything", "log");
  for (const auto& request : asked)
    EXPECT_TRUE(ask(kAdmin, request).has_failure()) << request.ShortDebugString();
  EXPECT_EQ(test::shim::count("C_SignInit"), 0u);
  EXPECT_EQ(test::shim::count("C_DeriveKey"), 0u);
  wire::Request retype;
  retype.mutable_key_retype()->set_key("log");
  retype.mutable_key_retype()->set_purpose("identity");
  EXPECT_TRUE(ask(kAdmin, retype).has_failure());
  EXPECT_EQ(keys_.find("log").purpose, Purpose::kAudit);
}

TEST_F(GateTest, R12_DestroyNeedsTheKidAndIsRecordedBeforeAndAfter) {
  const auto key = create("data", "sign", "ec-p256");
  wire::Request request;
  request.mutable_key_destroy()->set_key("data");
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::CONFIRM);
  EXPECT_EQ(ask(kSigner, request).failure().code(), wire::DENIED);
  request.mutable_key_destroy()->set_confirm_kid(key.kid());
  EXPECT_EQ(ask(kAdmin, request).key_destroy().key().state(), "destroyed");
  const auto lines = audit_lines();
  EXPECT_THAT(lines[lines.size() - 2], HasSubstr("\"outcome\":\"begun\""));
  EXPECT_THAT(lines.back(), HasSubstr("\"what\":\"key.destroy\""));
  EXPECT_THAT(lines.back(), HasSubstr("\"outcome\":\"ok\""));
}

TEST_F(GateTest, Fault141_NamesOfCallersCannotForgeALine) {
  ask(kStranger, sign_request("x\"}\n{\"seq\":99\x1b[31m"));
  const auto lines = audit_lines();
  EXPECT_THAT(lines, Each(Not(HasSubstr("\x1b"))));
  const auto answer = ask(kStranger, sign_request("a\nb\x1b[31m")).failure().text();
  EXPECT_THAT(answer, Not(HasSubstr("\n")));
  EXPECT_THAT(answer, Not(HasSubstr("\x1b")));
  EXPECT_TRUE(audit::verify(hsm_.folder() / "audit", {}).ok);
}

TEST_F(GateTest, R13_LostKeyIsOneFindingWithItsKid) {
  const auto key = create("data", "sign", "ec-p256");
  create("other", "sign", "ec-p256");
  vault_.destroy(CkaId::from_hex(key.cka_id()));
  keys_.reconcile();
  EXPECT_EQ(ask(kAdmin, sign_request("data")).failure().code(), wire::KEY_LOST);
  wire::Request doctor;
  doctor.mutable_doctor();
  const auto reply = ask(kAdmin, doctor).doctor();
  EXPECT_EQ(reply.exit_code(), 4u);
  ASSERT_EQ(reply.findings_size(), 1);
  EXPECT_EQ(reply.findings(0).kid(), key.kid());
  EXPECT_THAT(reply.findings(0).cure(), HasSubstr("keyagent key destroy"));
}

// A queue of envelopes to a key that has gone: the token is asked once, not once an item.
TEST_F(GateTest, R13_ALostKeyIsNotAskedForAgainAtOnce) {
  const auto key = create("data", "sign", "ec-p256");
  vault_.destroy(CkaId::from_hex(key.cka_id()));
  EXPECT_EQ(ask(kAdmin, sign_request("data")).failure().code(), wire::KEY_LOST);
  test::shim::reset_counts();
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(ask(kAdmin, sign_request("data")).failure().code(), wire::KEY_LOST);
  EXPECT_EQ(test::shim::count("C_FindObjectsInit"), 0u);
  EXPECT_EQ(test::shim::count("C_SignInit"), 0u);
}

TEST_F(GateTest, Fault155_TextsBesideTheKeysNameAreCheckedToo) {
  create("data", "sign", "ec-p256");
  const auto before = audit_lines().size();
  for (const std::string& reason :
       {std::string(1 << 20, 'r'), std::string("a\nb"), std::string("\xff")}) {
    wire::Request request;
    request.mutable_key_state()->set_key("data");
    request.mutable_key_state()->set_state("suspended");
    request.mutable_key_state()->set_reason(reason);
    EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::USAGE);
  }
  EXPECT_EQ(audit_lines().size(), before + 1) << "the mark alone";
  EXPECT_FALSE(ask(kAdmin, sign_request("data")).has_failure());
}

}  // namespace
}  // namespace keyagent::gate
