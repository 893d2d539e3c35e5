// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 156: AES-CBC content through the gate: refused unless the key was created for it, and
// never resealed.

#include <gtest/gtest.h>

#include <set>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "tests/gate/gate_fixture.h"
#include "tests/support/cbc_message.h"

namespace keyagent::gate {
namespace {

using ::testing::HasSubstr;

class GateContentKindTest : public GateTest {
 protected:
  wire::Response create_legacy(const std::string& name, const std::string& purpose = "transport",
                               bool accepts = true) {
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(purpose);
    if (purpose == "transport") request.mutable_key_create()->set_algorithm("ec-p256");
    request.mutable_key_create()->set_accepts_cbc(accepts);
    return ask(kAdmin, request);
  }
  wire::Response reseal(const std::string& envelope) {
    wire::Request request;
    request.mutable_reseal()->set_envelope(envelope);
    return ask(kAdmin, request);
  }
  void rekey(const std::string& name) {
    wire::Request request;
    request.mutable_rekey()->set_name(name);
    EXPECT_FALSE(ask(kAdmin, request).has_failure());
    runner_.run(keys::Span(0));
  }
  std::uint64_t operations() const { return test::shim::count("C_DeriveKey"); }
  static std::string cbc(const wire::Key& key, std::string_view text) {
    return test::cbc_message(as_bytes(key.spki()), text);
  }
  // The last byte of the block before the padding decides about it.
  static std::string with_changed_padding(std::string message, int value) {
    message[message.size() - 17] = static_cast<char>(message[message.size() - 17] ^ value);
    return message;
  }
};

TEST_F(GateContentKindTest, Fault156_OpenRefusesCbcContentByDefaultAndPrintsTheFix) {
  const auto key = create("backup-1", "transport", "ec-p256");
  EXPECT_FALSE(key.accepts_cbc());
  const auto before = operations();
  const auto refused = ask(kBackup, open_request(cbc(key, "the password")));
  EXPECT_EQ(refused.failure().code(), wire::UNSUPPORTED);
  EXPECT_THAT(refused.failure().text(), HasSubstr("openssl cms -encrypt -aes-256-gcm"));
  EXPECT_EQ(operations(), before) << "the token was asked";
}

TEST_F(GateContentKindTest, Fault156_AKeyThatWasCreatedForItOpensCbcContentAndNothingElse) {
  const auto key = create_legacy("backup-1").key_create().key();
  EXPECT_TRUE(key.accepts_cbc());
  EXPECT_EQ(ask(kBackup, open_request(cbc(key, "the password"))).open().plaintext(),
            "the password");
  const PublicKeyInfo other{Kid(key.kid()),
                            key.name(),
                            KeyAlgorithm::kEcP256,
                            Purpose::kTransport,
                            EnvelopeAlgorithm::kEcdhEsA256Kw,
                            Bytes(key.spki().begin(), key.spki().end())};
  const std::string_view text = "the password";
  const auto sealed = envelope::seal_jwe(other, envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(text.begin(), text.end()));
  EXPECT_EQ(ask(kBackup, open_request({sealed.begin(), sealed.end()})).failure().code(),
            wire::UNSUPPORTED);
}

TEST_F(GateContentKindTest, Fault156_TheKindOfContentIsFixedWhenTheKeyIsCreated) {
  EXPECT_EQ(create_legacy("s", "sign").failure().code(), wire::USAGE);
  EXPECT_EQ(create_legacy("v", "storage").failure().code(), wire::USAGE);
  const auto key = create_legacy("backup-1").key_create().key();
  EXPECT_FALSE(create_legacy("backup-1").key_create().created());
  EXPECT_EQ(create_legacy("backup-1", "transport", false).failure().code(), wire::EXISTS);
  rekey("backup-1");
  const auto fresh = keys_.find("backup-1");
  EXPECT_NE(fresh.kid.text(), key.kid());
  EXPECT_TRUE(fresh.accepts_cbc) << "a generation is as the one before it";
}

TEST_F(GateContentKindTest, Fault156_ResealAnswersTheSameForEveryPaddingOfCbcContent) {
  const auto key = create_legacy("backup-1").key_create().key();
  const std::string good = cbc(key, "0123456789abcdef0123456789");
  int opened = 0;
  for (const int value : {0, 1, 6}) {
    const auto answer = ask(kAdmin, open_request(with_changed_padding(good, value)));
    opened += answer.has_failure() ? 0 : 1;
  }
  ASSERT_GE(opened, 1) << "control: who may open sees whether the padding is valid";
  ASSERT_LT(opened, 3);
  for (const bool rekeyed : {false, true}) {
    if (rekeyed) rekey("backup-1");
    const auto before = operations();
    std::set<std::string> answers;
    for (int value = 0; value < 32; ++value)
      answers.insert(reseal(with_changed_padding(good, value)).failure().SerializeAsString());
    EXPECT_EQ(answers.size(), 1U);
    EXPECT_EQ(operations(), before) << "the token was asked";
  }
  const auto ordinary = create("backup-2", "transport", "ec-p256");
  EXPECT_EQ(reseal(cbc(ordinary, "x")).failure().code(), wire::UNSUPPORTED);
}

TEST_F(GateContentKindTest, Fault156_ResealOfGarbageForTheActiveKeyIsNotUpToDate) {
  const auto key = create("backup-1", "transport", "ec-p256");
  const PublicKeyInfo info{Kid(key.kid()),
                           key.name(),
                           KeyAlgorithm::kEcP256,
                           Purpose::kTransport,
                           EnvelopeAlgorithm::kEcdhEsA256Kw,
                           Bytes(key.spki().begin(), key.spki().end())};
  const std::string_view text = "the password";
  const auto sealed = envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(text.begin(), text.end()));
  std::string envelope(sealed.begin(), sealed.end());
  EXPECT_FALSE(reseal(envelope).reseal().changed());
  EXPECT_FALSE(reseal(envelope).has_failure());
  char& last = envelope[envelope.size() - 3];
  last = last == 'A' ? 'B' : 'A';
  EXPECT_EQ(reseal(envelope).failure().code(), wire::INPUT);
}

}  // namespace
}  // namespace keyagent::gate
