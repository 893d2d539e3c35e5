// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/ssh_agent.h"

#include <gtest/gtest.h>

#include <barrier>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/error.h"
#include "agent/sshagent/ssh_key.h"
#include "agent/sshagent/ssh_wire.h"
#include "tests/sshagent/memory_gate.h"

namespace keyagent::sshagent {
namespace {

const SecretBytes kFailed{5}, kDone{6}, kList{11}, kEmptyList{12, 0, 0, 0, 0};

SecretBytes sign_request(const PublicKeyInfo& key, std::string_view data, std::uint32_t flags) {
  return Writer().byte(13).string(key_blob(key.spki)).string(data).uint32(flags).take();
}
SecretBytes lock(std::uint8_t type, std::string_view passphrase) {
  return Writer().byte(type).string(passphrase).take();
}
SecretBytes extension(std::string_view name, ByteView rest = {}) {
  return Writer().byte(27).string(name).raw(rest).take();
}

class SshAgentTest : public ::testing::Test {
 protected:
  SecretBytes ask(ByteView body, std::uint32_t uid = test::MemoryGate::kUid) {
    return ask_of(agent_, body, bindings_, uid);
  }
  static SecretBytes ask_of(SshAgent& agent, ByteView body, SessionBindings& bindings,
                            std::uint32_t uid = test::MemoryGate::kUid) {
    policy::Principal who;
    who.uid = uid;
    int answers = 0;
    SecretBytes answer;
    agent.handle(who, body, bindings, [&](SecretBytes given) {
      ++answers;
      answer = std::move(given);
    });
    EXPECT_EQ(answers, 1);
    return answer;
  }
  // The names of the keys that are listed.
  std::vector<std::string> names() {
    const SecretBytes answer = ask(kList);
    Reader reader(answer);
    EXPECT_EQ(reader.byte(), 12);
    std::vector<std::string> out(reader.uint32());
    for (auto& each : out) {
      reader.string();
      each = as_text(reader.string());
    }
    reader.finish();
    return out;
  }
  bool signs(const PublicKeyInfo& key, std::uint32_t flags) {
    const SecretBytes answer = ask(sign_request(key, "the data", flags));
    if (answer == kFailed) return false;
    Reader reader(answer);
    EXPECT_EQ(reader.byte(), 14);
    const ByteView signature = reader.string();
    reader.finish();
    return verify_blob(key_blob(key.spki), signature, as_bytes("the data"));
  }

  test::MemoryGate gate_;
  SshAgent agent_{gate_.ask(), false};
  SessionBindings bindings_;
  const PublicKeyInfo ed_ = gate_.add("ed", Purpose::kSign, KeyAlgorithm::kEd25519);
  const PublicKeyInfo ec_ = gate_.add("ec", Purpose::kSign, KeyAlgorithm::kEcP384);
  const PublicKeyInfo rsa_ = gate_.add("rsa", Purpose::kSign, KeyAlgorithm::kRsa2048);
};

TEST_F(SshAgentTest, ActiveSignKeysAreListedAndNoOthers) {
  gate_.add("tls", Purpose::kAuth, KeyAlgorithm::kEcP256);
  gate_.add("credentials", Purpose::kTransport, KeyAlgorithm::kRsa2048);
  gate_.add("log", Purpose::kAudit, KeyAlgorithm::kEcP256);
  gate_.add("old", Purpose::kSign, KeyAlgorithm::kEcP256, "deactivated");
  EXPECT_EQ(names(), (std::vector<std::string>{"ed", "ec", "rsa"}));
}

TEST_F(SshAgentTest, EachKindOfKeySigns) {
  EXPECT_TRUE(signs(ed_, 0));
  EXPECT_TRUE(signs(ec_, 0));
  EXPECT_TRUE(signs(rsa_, kRsaSha256));
  EXPECT_TRUE(signs(rsa_, kRsaSha512));
  EXPECT_FALSE(signs(rsa_, 0)) << "SHA-1";
  EXPECT_EQ(gate_.signatures, 4);
}

TEST_F(SshAgentTest, KnownKeyIsStillCheckedEachTime) {
  EXPECT_TRUE(signs(ed_, 0));
  EXPECT_TRUE(signs(ed_, 0));
  EXPECT_TRUE(signs(ec_, 0)) << "another one";
  EXPECT_EQ(ask(sign_request(ed_, "data", 0), 1001), kFailed) << "another uid";
  gate_.listed.at(0).set_state("suspended");
  EXPECT_FALSE(signs(ed_, 0));
  EXPECT_EQ(gate_.signatures, 3);
}

// Even if the gate were to let them.
TEST_F(SshAgentTest, KeysOfOtherPurposesAndStatesAreNotUsed) {
  for (const auto purpose : {Purpose::kAuth, Purpose::kAudit, Purpose::kTransport})
    EXPECT_FALSE(signs(gate_.add("k", purpose, KeyAlgorithm::kRsa2048), kRsaSha256));
  EXPECT_FALSE(signs(gate_.add("k", Purpose::kSign, KeyAlgorithm::kEcP256, "suspended"), 0));
  EXPECT_EQ(gate_.signatures, 0);
}

TEST_F(SshAgentTest, UnknownKeyAndForbiddenOneGetTheSameFailure) {
  test::SoftwareKeys elsewhere;
  const auto unknown = elsewhere.add("k", Purpose::kSign, KeyAlgorithm::kEcP256);
  EXPECT_EQ(ask(sign_request(unknown, "data", 0)), kFailed);
  EXPECT_EQ(ask(sign_request(ed_, "data", 0), 1001), kFailed);
  EXPECT_EQ(ask(kList, 1001), kEmptyList);
}

TEST_F(SshAgentTest, RequestThatTheGateForgetsFails) {
  gate_.forgetful = true;
  EXPECT_EQ(ask(kList), kFailed);
  EXPECT_EQ(ask(sign_request(ed_, "data", 0)), kFailed);
}

TEST_F(SshAgentTest, KeysAreNeitherAddedNorRemovedAndUnknownRequestsFail) {
  for (int type = 0; type < 256; ++type) {
    if (type == 11 || type == 22) continue;
    EXPECT_EQ(ask(SecretBytes{static_cast<std::uint8_t>(type)}), kFailed) << type;
    EXPECT_EQ(ask(SecretBytes{static_cast<std::uint8_t>(type), 0, 0, 0, 0}), kFailed) << type;
  }
  EXPECT_EQ(gate_.asked, 0);
}

TEST_F(SshAgentTest, Fault115_RequestThatIsCutOrTooLongFails) {
  const SecretBytes whole = sign_request(ec_, "data", 0);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_EQ(ask(ByteView(whole).first(size)), kFailed) << size;
  SecretBytes longer = whole;
  longer.push_back(0);
  EXPECT_EQ(ask(longer), kFailed);
  EXPECT_EQ(ask(SecretBytes{11, 0}), kFailed);
  EXPECT_EQ(gate_.asked, 0);
}

TEST_F(SshAgentTest, LockHoldsForItsUidUntilItsPassphraseComes) {
  EXPECT_EQ(ask(lock(23, "secret")), kFailed) << "not locked";
  EXPECT_EQ(ask(lock(22, "secret")), kDone);
  EXPECT_EQ(ask(lock(22, "other")), kFailed) << "locked already";
  EXPECT_EQ(ask(kList), kEmptyList);
  EXPECT_FALSE(signs(ed_, 0));
  for (const char* wrong : {"", "secre", "secret ", "Secret"})
    EXPECT_EQ(ask(lock(23, wrong)), kFailed) << wrong;
  EXPECT_EQ(ask(lock(23, "secret"), 1001), kFailed) << "another uid has no lock to open";
  EXPECT_EQ(gate_.asked, 0);
  EXPECT_EQ(ask(lock(22, "his"), 1001), kDone) << "each uid has its own";
  EXPECT_EQ(ask(lock(23, "secret")), kDone);
  EXPECT_TRUE(signs(ed_, 0));
  EXPECT_EQ(ask(kList, 1001), kEmptyList);
  EXPECT_EQ(ask(lock(22, std::string(1025, 'x'))), kFailed);
  EXPECT_EQ(ask(SecretBytes{22, 0, 0, 0, 1}), kFailed);
  EXPECT_TRUE(signs(ed_, 0));
}

TEST(AgentLock, OneUidKeepsOneThreadBusyWithPassphrases) {
  constexpr int kThreads = 6;
  AgentLock locks;
  ASSERT_TRUE(locks.lock(1, as_bytes("secret")));
  std::barrier start(kThreads);
  std::atomic<int> refused{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      try {
        wrong += locks.unlock(1, as_bytes("guess")) ? 100 : 1;
      } catch (const Error& error) {
        refused += error.code() == Code::kBusy ? 1 : 100;
      }
    });
  }
  for (auto& each : threads) each.join();
  EXPECT_EQ(refused + wrong, kThreads);
  EXPECT_GT(refused, 0);
  EXPECT_GT(wrong, 0);
  EXPECT_TRUE(locks.unlock(1, as_bytes("secret"))) << "its turn has come back";
}

TEST_F(SshAgentTest, QueryNamesTheExtensionsAndUnknownOnesFail) {
  EXPECT_EQ(ask(extension("query")),
            Writer().byte(29).string("query").string("session-bind@openssh.com").take());
  EXPECT_EQ(ask(extension("query", as_bytes("x"))), kFailed);
  EXPECT_EQ(ask(extension("something@example.org")), kFailed);
  EXPECT_EQ(ask(extension("")), kFailed);
}

TEST_F(SshAgentTest, ForwardedConnectionListsAndDoesNoMoreUnlessItMay) {
  const auto host = gate_.keys.add("host", Purpose::kAuth, KeyAlgorithm::kEd25519);
  const std::string id = "a session";
  const Bytes raw = gate_.keys.sign(host.kid, SignatureAlgorithm::kEdDsa, as_bytes(id));
  const auto bind = [&](std::uint8_t forwarding) {
    return extension("session-bind@openssh.com",
                     Writer()
                         .string(key_blob(host.spki))
                         .string(id)
                         .string(signature_blob(*signature_for(host.algorithm, 0), raw))
                         .byte(forwarding)
                         .take());
  };
  EXPECT_EQ(ask(bind(2)), kFailed) << "no boolean";
  SessionBindings own;
  EXPECT_EQ(ask_of(agent_, bind(0), own), kDone);
  EXPECT_NE(ask_of(agent_, sign_request(ed_, "data", 0), own), kFailed);
  bindings_ = {};
  EXPECT_EQ(ask(bind(1)), kDone);
  EXPECT_EQ(names().size(), 3u);
  EXPECT_FALSE(signs(ed_, 0));
  EXPECT_EQ(ask(lock(22, "x")), kFailed);
  SshAgent trusting(gate_.ask(), true);
  EXPECT_NE(ask_of(trusting, sign_request(ed_, "data", 0), bindings_), kFailed);
}

TEST_F(SshAgentTest, ListEndsWhereSshWouldStopReading) {
  gate_.listed.assign(3000, gate_.listed.front());
  EXPECT_EQ(names().size(), 2048u);
  gate_.listed.assign(2000, gate_.listed.front());
  for (auto& key : gate_.listed) key.set_name(std::string(63, 'n'));
  EXPECT_EQ(names().size(), 2000u);
  for (auto& key : gate_.listed) {
    key.set_spki(rsa_.spki.data(), rsa_.spki.size());
  }
  EXPECT_LT(names().size(), 2000u);
  EXPECT_LE(ask(kList).size(), 256u * 1024);
}

// Remembers the questions; the test answers them.
class Asked final : public Confirmation {
 public:
  bool wanted(const std::string& key) const override { return key == "ed"; }
  void ask(Question question, Then then) override {
    questions.push_back(std::move(question));
    thens.push_back(std::move(then));
  }
  std::vector<Question> questions;
  std::vector<Then> thens;
};

class SshConfirmed : public SshAgentTest {
 protected:
  // Sends a request whose answer comes into `answers_`.
  void send(ByteView body) {
    policy::Principal who;
    who.uid = test::MemoryGate::kUid;
    confirmed_.handle(who, body, bindings_,
                      [this](SecretBytes given) { answers_.push_back(std::move(given)); });
  }
  const std::shared_ptr<Asked> asked_ = std::make_shared<Asked>();
  SshAgent confirmed_{gate_.ask(), false, asked_};
  std::vector<SecretBytes> answers_;
};

TEST_F(SshConfirmed, KeySignsAfterAYesAndNotAfterANo) {
  send(sign_request(ec_, "data", 0));
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_TRUE(asked_->questions.empty()) << "this key needs no confirmation";
  for (const bool yes : {true, false}) {
    send(sign_request(ed_, "data", 0));
    ASSERT_EQ(asked_->thens.size(), 1u);
    EXPECT_EQ(answers_.size(), 1u) << "waits";
    EXPECT_EQ(asked_->questions[0].key, "ed");
    EXPECT_EQ(asked_->questions[0].kid, ed_.kid.text());
    EXPECT_EQ(asked_->questions[0].fingerprint, fingerprint(key_blob(ed_.spki)));
    EXPECT_EQ(asked_->questions[0].principal.uid, test::MemoryGate::kUid);
    asked_->thens[0](yes);
    ASSERT_EQ(answers_.size(), 2u);
    EXPECT_EQ(answers_[1].at(0), yes ? 14 : 5);
    EXPECT_EQ(gate_.signatures, 2);
    answers_.pop_back();
    asked_->thens.clear();
    asked_->questions.clear();
  }
}

TEST_F(SshConfirmed, NoConfirmationIsRequestedForACallerThatMayNotSign) {
  gate_.may_sign = false;
  send(sign_request(ed_, "data", 0));
  EXPECT_EQ(answers_, std::vector<SecretBytes>{kFailed});
  EXPECT_TRUE(asked_->questions.empty());
}

TEST_F(SshConfirmed, YesThatComesAfterALockSignsNothing) {
  send(sign_request(ed_, "data", 0));
  ASSERT_EQ(asked_->thens.size(), 1u);
  send(lock(22, "secret"));
  asked_->thens[0](true);
  EXPECT_EQ(answers_, (std::vector<SecretBytes>{kDone, kFailed}));
  EXPECT_EQ(gate_.signatures, 0);
}

}  // namespace
}  // namespace keyagent::sshagent
