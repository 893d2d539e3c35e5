// SPDX-License-Identifier: Apache-2.0
// What no attack can undo: the template that a key is born with (RELIABILITY 2.6).

#include <algorithm>
#include <vector>

#include "agent/wire/keyagent.pb.h"
#include "tests/vault/raw_cryptoki.h"

namespace keyagent::vault {
namespace {

class KeyMakingTest : public ::testing::Test, protected AgentKeys {
 protected:
  static void SetUpTestSuite() { start(); }
  static void TearDownTestSuite() { end(); }
};

TEST_F(KeyMakingTest, Fault092_NoUsageCanBeAddedToAKeyAfterItsBirth) {
  for (const auto& key : {make(Purpose::kStorage, KeyAlgorithm::kAes256),
                          make(Purpose::kTransport, KeyAlgorithm::kRsa2048),
                          make(Purpose::kTransport, KeyAlgorithm::kEcP256),
                          make(Purpose::kExchange, KeyAlgorithm::kRsa2048)}) {
    SCOPED_TRACE(std::string(name_of(key.info.purpose)));
    const auto before = vault_->prove_custody(key);
    token_->run([&](Session& s) {
      for (const CK_ATTRIBUTE_TYPE usage :
           {CKA_SIGN, CKA_DECRYPT, CKA_ENCRYPT, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE, CKA_TRUSTED})
        EXPECT_FALSE(set_bool(s, handle_of(s, key), usage, true)) << usage;
    });
    const auto after = vault_->prove_custody(key);
    EXPECT_EQ(after.decrypt, before.decrypt);
    EXPECT_EQ(after.sign, before.sign);
    EXPECT_EQ(after.wrap, before.wrap);
    EXPECT_EQ(after.unwrap, before.unwrap);
    EXPECT_EQ(after.derive, before.derive);
  }
}

TEST_F(KeyMakingTest, Fault089_NoKeyOfAnyPurposeBothUnwrapsAndDecrypts) {
  const std::pair<Purpose, KeyAlgorithm> all[] = {
      {Purpose::kStorage, KeyAlgorithm::kAes256},   {Purpose::kTransport, KeyAlgorithm::kRsa2048},
      {Purpose::kTransport, KeyAlgorithm::kEcP256}, {Purpose::kSign, KeyAlgorithm::kRsa2048},
      {Purpose::kSign, KeyAlgorithm::kEd25519},     {Purpose::kAuth, KeyAlgorithm::kEcP384},
      {Purpose::kAudit, KeyAlgorithm::kEcP256},     {Purpose::kExchange, KeyAlgorithm::kRsa2048}};
  for (const auto& [purpose, algorithm] : all) {
    SCOPED_TRACE(std::string(name_of(purpose)) + " " + std::string(name_of(algorithm)));
    const auto custody = vault_->prove_custody(make(purpose, algorithm));
    EXPECT_NE(custody.wrap, true);
    EXPECT_EQ(custody.unwrap, purpose == Purpose::kExchange);
    EXPECT_FALSE(custody.unwrap == true && custody.decrypt == true);
    EXPECT_EQ(custody.extractable, false) << "so that no wrapping key can be brought for it";
  }
}

// The caller of unwrap() names a usage: that the key might leave again is not his to say.
TEST_F(KeyMakingTest, Fault091_WhatIsUnwrappedIsSensitiveUnextractableAndOfOneUsage) {
  const auto exchange = make(Purpose::kExchange, KeyAlgorithm::kRsa2048);
  const pkcs11::Bytes exchange_id(exchange.cka_id.bytes.begin(), exchange.cka_id.bytes.end());
  VaultKey brought;
  brought.cka_id = CkaId::random();
  brought.info.algorithm = KeyAlgorithm::kAes256;
  pkcs11::KeySpec spec;
  spec.kind = pkcs11::KeyKind::kAes256;
  spec.usage = pkcs11::Usage::kEncrypt;
  spec.cka_id.assign(brought.cka_id.bytes.begin(), brought.cka_id.bytes.end());
  spec.label = "brought";
  spec.extractable = true;
  token_->run(
      [&](Session& s) {
        const Bytes wrapped = wrap_with(s, CKM_RSA_PKCS_OAEP, s.key({exchange_id, CKO_PUBLIC_KEY}),
                                        import_aes(s, kKnown, {}));
        ASSERT_FALSE(wrapped.empty());
        pkcs11::unwrap(s, {exchange_id, CKO_PRIVATE_KEY}, pkcs11::WrapScheme::kRsaOaepSha1, wrapped,
                       spec);
      },
      true);
  const auto custody = vault_->prove_custody(brought);
  EXPECT_TRUE(custody.holds()) << custody.wrap_answer;
  EXPECT_EQ(custody.sensitive, true);
  EXPECT_EQ(custody.extractable, false);
  EXPECT_EQ(custody.encrypt, true);
  EXPECT_EQ(custody.wrap, false);
  EXPECT_EQ(custody.unwrap, false);
}

// What a caller of the agent can say: no verb and no field takes a template or a mechanism, the one
// that takes a key to wrap for takes only what an identity of the policy attests
// (Fault090 in gate_exchange_test), and the one that decrypts is for transport keys, which never
// wrap (Fault098 in gate_decrypt_test).
TEST(AgentProtocol, Fault089_Fault090_HasNoVerbThatWrapsOrSetsAttributesAndOneThatDecrypts) {
  std::vector<std::string> names;
  const auto collect = [&](const auto& self, const google::protobuf::Descriptor* message) -> void {
    for (int i = 0; i < message->field_count(); ++i) {
      names.emplace_back(message->field(i)->name());
      if (message->field(i)->message_type() != nullptr)
        self(self, message->field(i)->message_type());
    }
  };
  collect(collect, wire::Request::descriptor());
  EXPECT_GT(names.size(), 20u);
  EXPECT_EQ(std::count(names.begin(), names.end(), "decrypt"), 1);
  for (const auto& name : names) {
    if (name == "handler") continue;  // of a task: a program's name, no handle of a token
    if (name == "wrapped") continue;  // a key that its owner brings: it comes in, nothing goes out
    for (const char* word : {"wrap", "derive", "attribute", "template", "mechanism", "handle",
                             "extractable", "module", "copy"})
      EXPECT_EQ(name.find(word), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace keyagent::vault
