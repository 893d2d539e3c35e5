// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include "agent/envelope/envelope.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

class GateOpenTest : public GateTest {
 protected:
  std::string seal(const std::string& name, const std::string& text) {
    const auto record = keys_.find(name);
    const PublicKeyInfo info{record.kid,     record.name.text(), record.algorithm,
                             record.purpose, record.envelope,    record.spki};
    const SecretBytes plaintext(text.begin(), text.end());
    const auto sealed = envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm, plaintext);
    return std::string(as_text(sealed));
  }
  // The same envelope with another last byte of its tag.
  static std::string spoil(std::string envelope) {
    auto& byte = envelope[envelope.size() - 3];
    byte = byte == 'A' ? 'B' : 'A';
    return envelope;
  }
};

TEST_F(GateOpenTest, R4_EnvelopeOpensForTheCallerThatPolicyAllows) {
  create("backup-1", "transport", "rsa-2048");
  const auto envelope = seal("backup-1", "the credential");
  const auto opened = ask(kBackup, open_request(envelope));
  EXPECT_EQ(opened.open().plaintext(), "the credential") << opened.failure().text();
  EXPECT_EQ(opened.open().name(), "backup-1");
  EXPECT_EQ(ask(kStranger, open_request(envelope)).failure().code(), wire::DENIED);
  const auto lines = audit_lines();
  for (const auto& line : lines) EXPECT_THAT(line, Not(HasSubstr("the credential")));
}

TEST_F(GateOpenTest, R3_KeyThatIsNotActiveDecryptsNothing) {
  const auto key = create("backup-1", "transport", "rsa-2048");
  const auto envelope = seal("backup-1", "the credential");
  keys_.destroy("backup-1", {"test"});
  test::shim::reset_counts();
  const auto failure = ask(kBackup, open_request(envelope)).failure();
  EXPECT_EQ(failure.code(), wire::KEY_STATE);
  EXPECT_EQ(failure.kid(), key.kid());
  EXPECT_EQ(test::shim::count("C_DecryptInit"), 0u);
}

TEST_F(GateOpenTest, Fault104_FailedOpenIsAnsweredOnABeatAfterItsStart) {
  options_.failure_quantum = 40ms;
  create("backup-1", "transport", "rsa-2048");
  const auto envelope = spoil(seal("backup-1", "x"));
  const auto before = std::chrono::steady_clock::now();
  const auto asked = ask_later(kBackup, open_request(envelope));
  EXPECT_EQ(asked->wait().failure().code(), wire::INPUT);
  ASSERT_TRUE(asked->when().has_value());
  EXPECT_GE(*asked->when(), before + 40ms);
}

TEST_F(GateOpenTest, Fault106_FailureSaysTheSameWhateverWasWrong) {
  create("backup-1", "transport", "rsa-2048");
  const auto good = seal("backup-1", "x");
  const auto first_dot = good.find('.');
  auto other_key = good;
  auto& byte = other_key[first_dot + 20];
  byte = byte == 'A' ? 'B' : 'A';
  const auto by_tag = ask(kBackup, open_request(spoil(good))).failure();
  const auto by_key = ask(kBackup, open_request(other_key)).failure();
  EXPECT_EQ(by_tag.SerializeAsString(), by_key.SerializeAsString());
  EXPECT_EQ(by_tag.code(), wire::INPUT);
}

TEST_F(GateOpenTest, Fault107_TooManyFailuresSuspendTheKeyUntilReload) {
  options_.failures_per_key_per_day = 3;
  options_.failure_quantum = 1us;
  create("backup-1", "transport", "rsa-2048");
  const auto good = seal("backup-1", "x");
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(ask(kBackup, open_request(spoil(good))).failure().code(), wire::INPUT);
  EXPECT_EQ(ask(kBackup, open_request(good)).failure().code(), wire::KEY_STATE);
  int alarms = 0;
  for (const auto& line : audit_lines())
    alarms += line.find("\"what\":\"alarm\"") != std::string::npos;
  EXPECT_EQ(alarms, 1);
  gate().forgive(3);
  EXPECT_EQ(ask(kBackup, open_request(good)).open().plaintext(), "x");
}

TEST_F(GateOpenTest, Fault108_BadCiphertextsNeverReloadTheModule) {
  options_.failures_per_key_per_day = 1000000;
  options_.failure_quantum = 1us;
  create("backup-1", "transport", "rsa-2048");
  auto bad = seal("backup-1", "x");
  auto& byte = bad[bad.find('.') + 20];
  byte = byte == 'A' ? 'B' : 'A';
  test::shim::reset_counts();
  const auto epoch = vault_.token().status().epoch;
  for (int i = 0; i < 10000; ++i)
    ASSERT_EQ(ask(kBackup, open_request(bad)).failure().code(), wire::INPUT) << i;
  EXPECT_EQ(vault_.token().status().epoch, epoch);
  EXPECT_EQ(test::shim::count("C_Initialize"), 0u);
  EXPECT_EQ(test::shim::count("C_Login"), 0u);
}

TEST_F(GateOpenTest, StorageKeySealsAndOpens) {
  create("backup-store", "storage");
  wire::Request request;
  request.mutable_seal()->set_key("backup-store");
  request.mutable_seal()->set_plaintext("a record");
  EXPECT_EQ(ask(kBackup, request).failure().code(), wire::DENIED);
  const auto sealed = ask(kAdmin, request).seal().envelope();
  EXPECT_EQ(ask(kBackup, open_request(sealed)).open().plaintext(), "a record");
}

TEST_F(GateOpenTest, MalformedEnvelopeFailsBeforeTheTokenIsAsked) {
  create("backup-1", "transport", "rsa-2048");
  test::shim::reset_counts();
  EXPECT_EQ(ask(kBackup, open_request("not an envelope")).failure().code(), wire::INPUT);
  EXPECT_EQ(ask(kBackup, open_request("")).failure().code(), wire::INPUT);
  EXPECT_EQ(test::shim::count("C_DecryptInit"), 0u);
}

}  // namespace
}  // namespace keyagent::gate
