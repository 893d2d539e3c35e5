// SPDX-License-Identifier: Apache-2.0
// Rekey, census and reseal as callers see them.

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/pki/certification_request.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using ::testing::HasSubstr;

constexpr const char* kRekeyPolicy = R"(
rules:
  - name: admin
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, status, audit, admin]
    who: {user: "1000"}
  - name: janitor
    allow: [reseal, public, status]
    keys: ["backup-*"]
    who: {user: "1001"}
  - name: keeper
    allow: [rekey, public]
    keys: ["backup-*"]
    who: {user: "1002"}
)";

class GateRekeyTest : public GateTest {
 protected:
  static constexpr std::uint32_t kJanitor = 1001, kKeeper = 1002;
  GateRekeyTest() { policy_ = policy::parse_policy(kRekeyPolicy, "policy.yml"); }

  static wire::Request rekey_request(const std::string& name) {
    wire::Request request;
    request.mutable_rekey()->set_name(name);
    return request;
  }
  std::string seal(const wire::Key& key, const std::string& text) {
    const PublicKeyInfo info{Kid(key.kid()),
                             key.name(),
                             *key_algorithm_of(key.algorithm()),
                             *purpose_of(key.purpose()),
                             *envelope_algorithm_of(key.envelope()),
                             Bytes(key.spki().begin(), key.spki().end())};
    const auto sealed = envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm,
                                           SecretBytes(text.begin(), text.end()));
    return {sealed.begin(), sealed.end()};
  }
  static wire::Request reseal_request(const std::string& envelope) {
    wire::Request request;
    request.mutable_reseal()->set_envelope(envelope);
    return request;
  }
  wire::Response report(std::uint32_t uid, const std::string& source, const std::string& kid,
                        std::uint64_t count) {
    wire::Request request;
    request.mutable_census_report()->set_source(source);
    if (!kid.empty()) {
      auto& entry = *request.mutable_census_report()->add_entries();
      entry.set_kid(kid);
      entry.set_count(count);
    }
    return ask(uid, request);
  }
  void rekey(const std::string& name) {
    EXPECT_FALSE(ask(kAdmin, rekey_request(name)).has_failure());
    runner_.run(keys::Span(0));
  }
};

TEST_F(GateRekeyTest, RekeyNeedsItsOwnActionAndIsRecorded) {
  create("backup-1", "transport", "ec-p256");
  EXPECT_EQ(ask(kJanitor, rekey_request("backup-1")).failure().code(), wire::DENIED);
  EXPECT_EQ(ask(kKeeper, rekey_request("other")).failure().code(), wire::DENIED);
  const auto begun = ask(kKeeper, rekey_request("backup-1"));
  EXPECT_EQ(begun.rekey().rekey().step(), "planned") << begun.failure().text();
  EXPECT_THAT(audit_lines().back(), HasSubstr("\"what\":\"rekey\""));
  EXPECT_THAT(begun.rekey().rekey().actor(), HasSubstr("1002"));
}

// A certificate outlives the moment in which an old key may complete handshakes.
TEST_F(GateRekeyTest, T8_AnOldAuthKeySignsHandshakesAndNoCertificationRequest) {
  const auto old = create("web", "auth", "ec-p256");
  const auto sign = [&](ByteView message) {
    wire::Request request;
    request.mutable_sign()->set_key(old.kid());
    request.mutable_sign()->set_message(message.data(), message.size());
    return ask(kAdmin, request);
  };
  // Throws what the gate answers.
  const auto certify = [&] {
    const auto algorithm = openssl::algorithm_identifier(SignatureAlgorithm::kEs256);
    pki::make_request(
        as_bytes(old.spki()), {"/CN=web", {}},
        {algorithm, [&](ByteView message) {
           const auto answered = sign(message);
           if (answered.has_failure())
             throw std::runtime_error(wire::ErrorCode_Name(answered.failure().code()));
           const auto raw = as_bytes(answered.sign().signature());
           return openssl::ecdsa_der(Bytes(raw.begin(), raw.end()));
         }});
  };
  const std::string handshake = std::string(64, ' ') + "TLS 1.3, server CertificateVerify" +
                                std::string(1, '\0') + std::string(32, 'h');
  EXPECT_NO_THROW(certify());
  rekey("web");
  ASSERT_NE(keys_.find("web").kid.text(), old.kid());
  EXPECT_EQ(sign(as_bytes(handshake)).sign().kid(), old.kid());
  EXPECT_THAT(certify, testing::ThrowsMessage<std::runtime_error>("KEY_STATE"));
  keys_.change_state(old.kid(), KeyState::kCompromised, {"stolen"});
  EXPECT_EQ(sign(as_bytes(handshake)).failure().code(), wire::KEY_STATE);
}

TEST_F(GateRekeyTest, R6_ARequestThatWaitedThroughTheSwitchIsSignedByTheNewKey) {
  options_.token_operations = 2;
  const auto old = create("releases", "sign", "ec-p256");
  // One place hangs in the token; the next request for the same user waits in the queue behind it.
  options_.token_operations = 1;
  gate_.reset();
  gate();  // made here, not by two threads at once
  test::shim::set_faults("C_Sign:n=1:hang");
  test::shim::reset_counts();
  std::thread first([&] { ask(kAdmin, sign_request("releases")); });
  if (!comes_to_run("C_Sign")) {
    test::shim::release_hangs();
    first.join();
    FAIL() << "the first request never came to the token";
  }
  const auto second = ask_later(kAdmin, sign_request("releases"));
  EXPECT_FALSE(second->answered());
  runner_.begin({KeyName("releases"), std::nullopt, std::nullopt, keys::Span(0)}, {"test"});
  runner_.run(keys::Span(0));
  test::shim::release_hangs();
  first.join();
  const auto answer = second->wait();
  EXPECT_FALSE(answer.has_failure()) << answer.failure().text();
  EXPECT_EQ(answer.sign().kid(), keys_.find("releases").kid.text());
  EXPECT_NE(answer.sign().kid(), old.kid());
}

TEST_F(GateRekeyTest, WhoNamesAKidGetsThatKeyOrARefusal) {
  const auto old = create("releases", "sign", "ec-p256");
  rekey("releases");
  EXPECT_EQ(ask(kAdmin, sign_request(old.kid())).failure().code(), wire::KEY_STATE);
}

TEST_F(GateRekeyTest, ResealGivesTheSamePlaintextUnderTheNewKeyWithoutTheRightToOpen) {
  const auto old = create("backup-1", "transport", "ec-p256");
  const std::string envelope = seal(old, "the password");
  rekey("backup-1");
  EXPECT_EQ(ask(kJanitor, open_request(envelope)).failure().code(), wire::DENIED);
  const auto again = ask(kJanitor, reseal_request(envelope));
  ASSERT_TRUE(again.reseal().changed()) << again.failure().text();
  EXPECT_EQ(again.reseal().old_kid(), old.kid());
  EXPECT_EQ(again.SerializeAsString().find("the password"), std::string::npos);
  const auto opened = ask(kAdmin, open_request(again.reseal().envelope()));
  EXPECT_EQ(opened.open().plaintext(), "the password");
  EXPECT_EQ(opened.open().kid(), keys_.find("backup-1").kid.text());
  EXPECT_FALSE(ask(kJanitor, reseal_request(again.reseal().envelope())).reseal().changed());
}

TEST_F(GateRekeyTest, ResealOfASpoiledEnvelopeIsTheUniformRefusalAndCounts) {
  const auto key = create("backup-1", "transport", "ec-p256");
  std::string envelope = seal(key, "the password");
  rekey("backup-1");
  envelope[envelope.size() - 3] = envelope[envelope.size() - 3] == 'A' ? 'B' : 'A';
  options_.failures_per_key_per_day = 2;
  gate_.reset();
  EXPECT_EQ(ask(kJanitor, reseal_request(envelope)).failure().code(), wire::INPUT);
  EXPECT_EQ(ask(kJanitor, reseal_request(envelope)).failure().code(), wire::INPUT);
  EXPECT_EQ(ask(kJanitor, reseal_request(envelope)).failure().code(), wire::KEY_STATE);
}

TEST_F(GateRekeyTest, ResealGivesOutNothingThatDoesNotOpen) {
  create("backup-vault", "storage");
  wire::Request request;
  request.mutable_seal()->set_key("backup-vault");
  request.mutable_seal()->set_plaintext("the password");
  const std::string envelope = ask(kAdmin, request).seal().envelope();
  rekey("backup-vault");
  test::shim::set_faults("C_Encrypt:every=1:flip");
  const auto spoiled = ask(kJanitor, reseal_request(envelope));
  test::shim::clear();
  EXPECT_EQ(spoiled.failure().code(), wire::INTEGRITY) << spoiled.failure().text();
  EXPECT_TRUE(ask(kJanitor, reseal_request(envelope)).reseal().changed());
}

TEST_F(GateRekeyTest, ResealOfAStorageKeysEnvelopeStaysInTheToken) {
  create("backup-vault", "storage");
  wire::Request request;
  request.mutable_seal()->set_key("backup-vault");
  request.mutable_seal()->set_plaintext("the password");
  const std::string envelope = ask(kAdmin, request).seal().envelope();
  rekey("backup-vault");
  const auto again = ask(kJanitor, reseal_request(envelope));
  ASSERT_TRUE(again.reseal().changed()) << again.failure().text();
  EXPECT_EQ(ask(kAdmin, open_request(again.reseal().envelope())).open().plaintext(),
            "the password");
}

TEST_F(GateRekeyTest, R12_DestroyWithLiveDataIsRefusedWithTheCount) {
  const auto key = create("backup-1", "transport", "ec-p256");
  EXPECT_FALSE(report(kKeeper, "/srv", key.kid(), 7).has_failure());
  wire::Request request;
  request.mutable_key_destroy()->set_key(key.kid());
  request.mutable_key_destroy()->set_confirm_kid(key.kid());
  const auto refused = ask(kAdmin, request);
  EXPECT_EQ(refused.failure().code(), wire::KEY_STATE);
  EXPECT_THAT(refused.failure().text(), HasSubstr("7 sealed envelopes"));
  EXPECT_FALSE(report(kKeeper, "/srv", "", 0).has_failure());
  EXPECT_FALSE(ask(kAdmin, request).has_failure());
}

TEST_F(GateRekeyTest, OnlyTheReporterOfASourceMayReportItEmpty) {
  const auto key = create("backup-1", "transport", "ec-p256");
  EXPECT_FALSE(report(kAdmin, "/srv", key.kid(), 7).has_failure());
  EXPECT_EQ(report(kKeeper, "/srv", "", 0).failure().code(), wire::DENIED);
  EXPECT_EQ(report(kStranger, "/other", "", 0).failure().code(), wire::DENIED);
  EXPECT_EQ(keys_.sealed_count(Kid(key.kid())), 7u);
}

TEST_F(GateRekeyTest, DestroyingANameWithTwoGenerationsAsksForAKid) {
  const auto old = create("backup-1", "transport", "ec-p256");
  rekey("backup-1");
  wire::Request request;
  request.mutable_key_destroy()->set_key("backup-1");
  request.mutable_key_destroy()->set_confirm_kid(keys_.find("backup-1").kid.text());
  const auto refused = ask(kAdmin, request);
  EXPECT_EQ(refused.failure().code(), wire::USAGE);
  EXPECT_THAT(refused.failure().text(), HasSubstr(old.kid()));
}

TEST_F(GateRekeyTest, R12_SuspendResumeAndRevokeAreDifferentVerbs) {
  create("releases", "sign", "ec-p256");
  std::string kid;
  const auto become = [&](const char* state) {
    wire::Request request;
    request.mutable_key_state()->set_key("releases");
    request.mutable_key_state()->set_state(state);
    request.mutable_key_state()->set_reason("test");
    request.mutable_key_state()->set_confirm_kid(kid);
    return ask(kAdmin, request);
  };
  EXPECT_EQ(become("suspended").key_state().key().state(), "suspended");
  EXPECT_EQ(ask(kAdmin, sign_request("releases")).failure().code(), wire::KEY_STATE);
  EXPECT_EQ(become("active").key_state().key().state(), "active");
  EXPECT_FALSE(ask(kAdmin, sign_request("releases")).has_failure());
  EXPECT_EQ(become("compromised").failure().code(), wire::CONFIRM) << "final, so by its kid";
  kid = keys_.find("releases").kid.text();
  EXPECT_EQ(become("compromised").key_state().key().state(), "compromised");
  EXPECT_EQ(become("active").failure().code(), wire::KEY_STATE);
  EXPECT_EQ(become("staged").failure().code(), wire::KEY_STATE);
  EXPECT_EQ(become("destroyed").failure().code(), wire::KEY_STATE);
  EXPECT_EQ(become("nonsense").failure().code(), wire::USAGE);
}

TEST_F(GateRekeyTest, DoctorNamesASuspendedKeyAndTheFix) {
  create("releases", "sign", "ec-p256");
  keys_.change_state("releases", KeyState::kSuspended, {"test"});
  wire::Request request;
  request.mutable_doctor();
  const auto reply = ask(kAdmin, request).doctor();
  ASSERT_EQ(reply.findings_size(), 1);
  EXPECT_EQ(reply.findings(0).cure(), "keyagent key resume releases");
}

}  // namespace
}  // namespace keyagent::gate
