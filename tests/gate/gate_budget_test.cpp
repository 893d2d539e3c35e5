// SPDX-License-Identifier: Apache-2.0
// What one caller may use up is its own.

#include <fstream>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kBudgetPolicy = R"(
rules:
  - name: admin
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, reseal, status, audit, admin, prove]
    who: {user: "1000"}
  - name: openers
    allow: [open, decrypt, public]
    who: {user: ["1001", "1002"]}
  - name: sees-only
    allow: [public, status]
    who: {user: "1003"}
  - name: destroyer
    allow: [destroy]
    who: {user: "1004"}
)";

class GateBudgetTest : public GateTest {
 protected:
  static constexpr std::uint32_t kOpener = 1001, kOwner = 1002, kSees = 1003, kDestroyer = 1004;

  GateBudgetTest() {
    policy_ = policy::parse_policy(kBudgetPolicy, "policy.yml");
    options_.failure_quantum = 1us;
  }
  std::string seal(const std::string& name, const std::string& text) {
    const auto record = keys_.find(name);
    const PublicKeyInfo info{record.kid,     record.name.text(), record.algorithm,
                             record.purpose, record.envelope,    record.spki};
    const SecretBytes plaintext(text.begin(), text.end());
    return std::string(
        as_text(envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm, plaintext)));
  }
  static std::string spoil(std::string envelope) {
    auto& byte = envelope[envelope.size() - 3];
    byte = byte == 'A' ? 'B' : 'A';
    return envelope;
  }
  // As the link asks for a credential.
  wire::Response open_for(const std::string& subject, const std::string& envelope) {
    policy::Principal link;
    link.voucher = policy::Principal::Voucher::kInternal;
    link.name = "link";
    link.subject = subject;
    auto asked = std::make_shared<Asked>();
    gate().handle(link, open_request(envelope), asked);
    return asked->wait();
  }
  static wire::Request prove_request(const std::string& key) {
    wire::Request request;
    request.mutable_key_show()->set_key(key);
    request.mutable_key_show()->set_prove(true);
    return request;
  }
};

TEST_F(GateBudgetTest, Fault148_AFloodOfRefusalsIsCountedSlowedAndSparesOthers) {
  create("data", "sign", "ec-p256");
  const auto before = audit_lines().size();
  const auto bytes = std::filesystem::file_size(hsm_.folder() / "audit/audit.log");
  int slowed = 0;
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 100000; ++i) {
    const auto asked = ask_later(kStranger, sign_request("data"));
    ASSERT_TRUE(asked->answered());
    slowed += asked->when().has_value();
    if (i % 1000 != 0) continue;
    ASSERT_FALSE(ask(kAdmin, sign_request("data")).has_failure());
  }
  // The budget comes back with time: two a second at most, however long this took.
  const auto seconds =
      std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - started).count();
  EXPECT_GT(slowed, 99000 - 2 * seconds);
  gate().stop();
  const auto lines = audit_lines();
  EXPECT_LT(lines.size(), before + 400 + 2 * static_cast<std::size_t>(seconds));
  EXPECT_LT(std::filesystem::file_size(hsm_.folder() / "audit/audit.log") - bytes, 1U << 20U);
  EXPECT_THAT(lines.back(), HasSubstr("\"what\":\"refused.summary\",\"who\":\"uid 1003\""));
  // The refusals of another are still recorded one by one, and answered at once.
  const auto other = ask_later(kBackup, sign_request("data"));
  EXPECT_EQ(other->wait().failure().code(), wire::DENIED);
  EXPECT_FALSE(other->when().has_value());
}

TEST_F(GateBudgetTest, Fault148_EveryKindOfRecordedFailureHasTheBudget) {
  options_.failures_per_key_per_day = 1000000;
  create("mail", "transport", "rsa-2048");
  const auto bad = spoil(seal("mail", "x"));
  const auto before = audit_lines().size();
  for (int i = 0; i < 500; ++i)
    ASSERT_EQ(ask(kOpener, open_request(bad)).failure().code(), wire::INPUT);
  wire::Request show;
  show.mutable_certificate_show()->set_key("nothing");
  for (int i = 0; i < 500; ++i) {
    ask(kStranger, show);
    ask(kStranger, wire::Request());
    ask(kStranger, sign_request(""));
  }
  EXPECT_LT(audit_lines().size(), before + 250);
}

// A change is recorded as begun before it fails.
TEST_F(GateBudgetTest, Fault148_ChangesThatFailAreNotWithoutLimit) {
  create("data", "sign", "ec-p256");
  wire::Request request;
  request.mutable_key_destroy()->set_key("data");
  const auto before = audit_lines().size();
  int busy = 0;
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    const auto failure = ask(kDestroyer, request).failure();
    if (failure.code() == wire::BUSY) {
      ++busy;
      EXPECT_GE(failure.retry_after_ms(), 1000u);
    } else {
      EXPECT_EQ(failure.code(), wire::CONFIRM);
    }
  }
  const auto seconds =
      std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - started).count();
  EXPECT_GT(busy, 850 - 2 * seconds);
  EXPECT_LT(audit_lines().size(), before + 150 + 4 * static_cast<std::size_t>(seconds));
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::CONFIRM) << "others are not affected";
}

TEST_F(GateBudgetTest, Fault149_OneUidFillsItsOwnShareOfTheQueueOnly) {
  options_.token_operations = 1;
  options_.queue = 16;
  create("data", "sign", "ec-p256");
  test::shim::set_faults("C_Sign:n=1:hang; C_Sign:every=1:delay=1");
  test::shim::reset_counts();
  std::vector<std::shared_ptr<Asked>> flood;
  gate();  // made here, not by two threads at once
  std::thread first([&] { ask(kAdmin, sign_request("data")); });
  if (!comes_to_run("C_Sign")) {
    test::shim::release_hangs();
    first.join();
    FAIL() << "the first request never came to the token";
  }
  for (int i = 0; i < 200; ++i) flood.push_back(ask_later(kAdmin, sign_request("data")));
  policy_ = policy::parse_policy(
      "rules:\n  - {name: all, allow: [sign, public], who: {anyone: true}}\n", "policy.yml");
  std::vector<std::shared_ptr<Asked>> owner;
  for (int i = 0; i < 4; ++i) owner.push_back(ask_later(kOwner, sign_request("data")));
  EXPECT_EQ(gate().counters().queued, 16u);
  test::shim::release_hangs();
  for (const auto& one : owner) EXPECT_FALSE(one->wait().has_failure()) << "no BUSY, no DEADLINE";
  for (const auto& one : flood) one->wait();
  first.join();
  EXPECT_EQ(gate().counters().queued, 0u);
}

TEST_F(GateBudgetTest, Fault150_BadEnvelopesOfOneCallerPauseThatCallerOnly) {
  options_.failures_per_key_per_day = 3;
  create("mail", "transport", "rsa-2048");
  create("other", "transport", "rsa-2048");
  const auto good = seal("mail", "x");
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(ask(kOpener, open_request(spoil(good))).failure().code(), wire::INPUT);
  const auto paused = ask(kOpener, open_request(good)).failure();
  EXPECT_EQ(paused.code(), wire::KEY_STATE);
  EXPECT_THAT(paused.text(), HasSubstr("uid 1001 may not open with key mail until 20"));
  EXPECT_EQ(ask(kOwner, open_request(good)).open().plaintext(), "x");
  EXPECT_EQ(ask(kAdmin, open_request(good)).open().plaintext(), "x");
  EXPECT_EQ(ask(kOpener, open_request(seal("other", "y"))).open().plaintext(), "y");
  wire::Request doctor, status;
  doctor.mutable_doctor();
  const auto findings = ask(kAdmin, doctor).doctor();
  ASSERT_EQ(findings.findings_size(), 1);
  EXPECT_THAT(findings.findings(0).text(),
              HasSubstr("uid 1001 cannot open envelopes with it until 20"));
  EXPECT_EQ(findings.exit_code(), 0u) << "a warning";
  status.mutable_status();
  ASSERT_EQ(ask(kAdmin, status).status().paused_size(), 1);
  EXPECT_EQ(ask(kAdmin, status).status().paused(0).caller(), "uid 1001");
  EXPECT_EQ(ask(kSees, status).status().paused_size(), 0) << "pauses of other callers are hidden";
  gate().forgive(3);
  EXPECT_EQ(ask(kOpener, open_request(good)).open().plaintext(), "x");
}

TEST_F(GateBudgetTest, Fault150_ABadCredentialPausesItselfOnly) {
  options_.failures_per_key_per_day = 3;
  create("credentials", "transport", "rsa-2048");
  const auto good = seal("credentials", "x");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(open_for("credential mail, version 1", spoil(good)).failure().code(), wire::INPUT);
  }
  EXPECT_EQ(open_for("credential mail, version 1", good).failure().code(), wire::KEY_STATE);
  EXPECT_EQ(open_for("credential mail, version 2", good).open().plaintext(), "x") << "corrected";
  EXPECT_EQ(open_for("credential web, version 1", good).open().plaintext(), "x");
  EXPECT_EQ(ask(kOwner, open_request(good)).open().plaintext(), "x");
}

TEST_F(GateBudgetTest, Fault149_ProofsOfCustodyNeedTheirActionAreRecordedAndLimited) {
  create("data", "sign", "ec-p256");
  create("more", "sign", "ec-p256");
  EXPECT_EQ(ask(kSees, prove_request("data")).failure().code(), wire::DENIED);
  EXPECT_THAT(audit_lines().back(), HasSubstr("refused: key.prove"));
  wire::Request show;
  show.mutable_key_show()->set_key("data");
  EXPECT_TRUE(ask(kSees, show).has_key_show()) << "to see it is enough for the rest";
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(ask(kAdmin, prove_request("data")).key_show().holds());
  EXPECT_THAT(audit_lines().back(), HasSubstr("\"what\":\"key.prove\""));
  test::shim::reset_counts();
  const auto busy = ask(kAdmin, prove_request("data")).failure();
  EXPECT_EQ(busy.code(), wire::BUSY);
  EXPECT_GT(busy.retry_after_ms(), 1000u);
  EXPECT_EQ(test::shim::count("C_WrapKey") + test::shim::count("C_CopyObject"), 0u);
  EXPECT_TRUE(ask(kAdmin, prove_request("more")).key_show().holds()) << "each key has its own";
}

TEST_F(GateBudgetTest, Fault155_AHugeNameIsRefusedBeforeItIsRecorded) {
  create("data", "sign", "ec-p256");
  const auto before = audit_lines();
  for (const std::uint32_t uid : {kAdmin, kStranger}) {
    EXPECT_EQ(ask(uid, sign_request(std::string(250 * 1024, 'x'))).failure().code(), wire::USAGE);
    EXPECT_EQ(ask(uid, sign_request("a\nb")).failure().code(), wire::USAGE);
  }
  const auto after = audit_lines();
  EXPECT_EQ(after.size(), before.size() + 1) << "the mark of the first count";
  // A name inside of an envelope: {"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"xxx…"}.
  const std::string header =
      R"({"alg":"RSA-OAEP-256","enc":"A256GCM","kid":")" + std::string(100 * 1024, 'x') + "\"}";
  const auto jwe =
      to_base64url(as_bytes(header)) + ".AAAA.AAAAAAAAAAAAAAAA.AAAA." + std::string(22, 'A');
  const auto answer = ask(kOpener, open_request(jwe)).failure();
  EXPECT_LT(answer.text().size(), 512u);
  ask(kStranger, sign_request(std::string(128, 'x')));
  for (const auto& line : audit_lines()) EXPECT_LT(line.size(), 4096u);
}

TEST_F(GateBudgetTest, Fault155_TailTruncatesRecordsOfAnOlderAgentAndReportsIt) {
  // What an agent of before wrote for one request.
  gate();
  audit::Event event;
  event.what = "mark";
  audit_.record_now(event);
  const auto path = hsm_.folder() / "audit/audit.log";
  std::ofstream(path, std::ios::app)
      << "{\"seq\":1,\"what\":\"refused\",\"who\":\"uid 1\",\"key\":\""
      << std::string(250 * 1024, 'x') << "\",\"hash\":\"00\"}\n";
  wire::Request request;
  request.mutable_audit_tail()->set_count(1);
  const auto reply = ask(kAdmin, request).audit_tail();
  ASSERT_EQ(reply.records_size(), 1);
  EXPECT_EQ(reply.shortened(), 1u);
  EXPECT_LT(reply.records(0).size(), 17000u);
  EXPECT_THAT(reply.records(0), HasSubstr("\"who\":\"uid 1\""));
  EXPECT_THAT(reply.records(0), HasSubstr("\"cut\":256"));
}

}  // namespace
}  // namespace keyagent::gate
