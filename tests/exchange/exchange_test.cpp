// SPDX-License-Identifier: Apache-2.0
// Keys between agents on three SoftHSM tokens: a source, a target, and a third that is not meant.

#include "agent/exchange/exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/exchange/key_import.h"
#include "agent/keys/guarded_keys.h"
#include "tests/support/fake_clock.h"
#include "tests/support/soft_hsm.h"
#include "tests/support/software_keys.h"
#include "tests/vault/software_transfer.h"

namespace keyagent::exchange {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// An agent without its socket: ledger, token, and the two keys of an instance.
struct Agent {
  Agent(const test::SoftHsm& hsm, const std::string& label, const Clock& clock_in)
      : clock(clock_in),
        vault(hsm.open_added(label)),
        keys({state.path() / "state", &clock, label}, vault) {
    keys.reconcile();
    identity = make("exchange-identity", Purpose::kIdentity);
    exchange = make("exchange", Purpose::kExchange, KeyAlgorithm::kRsa2048);
  }
  keys::KeyRecord make(const char* name, Purpose purpose,
                       std::optional<KeyAlgorithm> algorithm = {}, bool exchangeable = false) {
    return keys.create({KeyName(name), purpose, algorithm, std::nullopt, exchangeable}).record;
  }
  Offered offer() { return make_offer(keys, vault, clock, "exchange", "exchange-identity"); }
  Bytes seal(const keys::KeyRecord& key, std::string_view text) {
    return envelope::seal_jwe(keys.ops(), keys::info_of(key), envelope::ContentEncryption::kA256Gcm,
                              {text.begin(), text.end()});
  }
  std::string open(const std::string& kid, const Bytes& envelope) {
    const auto out = envelope::open(keys.ops(), keys::info_of(keys.find(kid)), envelope);
    return {out.begin(), out.end()};
  }

  const Clock& clock;
  test::TempFolder state;
  vault::TokenVault vault;
  keys::KeyStore keys;
  keys::KeyRecord identity, exchange;
};

class ExchangeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    hsm_ = std::make_unique<test::SoftHsm>("unused");
    for (const char* label : {"source", "target", "third"}) hsm_->add_token(label);
    source_ = std::make_unique<Agent>(*hsm_, "source", clock_);
    target_ = std::make_unique<Agent>(*hsm_, "target", clock_);
    third_ = std::make_unique<Agent>(*hsm_, "third", clock_);
  }
  static void TearDownTestSuite() {
    source_.reset();
    target_.reset();
    third_.reset();
    hsm_.reset();
  }
  // Each test has its own specification.
  void SetUp() override {
    specification_ = "s" + std::to_string(++count_);
    key_ = source_->make(name().c_str(), Purpose::kStorage, {}, true);
  }

  static std::string name() { return "data." + specification_; }
  ExportOrder order(Agent& to) const {
    const auto offered = to.offer();
    return {key_.kid,        "req-1",          specification_,        "exchange-identity",
            to.identity.kid, to.identity.spki, offered.exchange.spki, offered.proof};
  }
  std::string exported() {
    return export_key(source_->keys, source_->vault, clock_, order(*target_)).package;
  }
  ImportOrder delivery(const std::string& package) const {
    return {package, "req-1", specification_, source_->identity.spki, "exchange", KeyName(name())};
  }
  static keys::ImportResult import_at(Agent& agent, const ImportOrder& order) {
    const Package package = check_package(agent.keys, clock_, order);
    return import_key(agent.keys, order, package, "uid 1000");
  }
  keys::ImportResult import(const ImportOrder& order) { return import_at(*target_, order); }
  // The refusal's text; the token has as many keys as before.
  std::string refused(Code code, const std::function<void()>& work) {
    const auto before = target_->vault.objects().size() + third_->vault.objects().size();
    std::string text;
    try {
      work();
      ADD_FAILURE() << "nothing was refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      text = error.what();
    }
    EXPECT_EQ(target_->vault.objects().size() + third_->vault.objects().size(), before);
    return text;
  }
  // As the source would, with what the test changes.
  std::string forged(const std::function<void(Package&)>& change) {
    Package package = check_package(target_->keys, clock_, delivery(exported()));
    change(package);
    return sign_package(source_->keys.ops(), keys::info_of(source_->identity), package);
  }

  static inline test::FakeClock clock_;
  static inline std::unique_ptr<test::SoftHsm> hsm_;
  static inline std::unique_ptr<Agent> source_, target_, third_;
  static inline int count_ = 0;
  static inline std::string specification_;
  keys::KeyRecord key_;
};

// Why an identity must not be a sign key: a caller that may sign with it can attest the caller's
// own RSA key, and the source wraps the data key to that. A key of purpose identity does not sign
// such a text (gate_statement_test.cpp).
TEST_F(ExchangeTest, Fault144_Control_ASignKeyAsIdentityAttestsAKeyFromAFile) {
  const auto identity = target_->make("sign-identity", Purpose::kSign);
  test::SoftwareKeys keys;
  const auto mine = keys.add("mine", Purpose::kExchange, KeyAlgorithm::kRsa2048);
  auto wanted = order(*target_);
  wanted.target = identity.kid;
  wanted.target_spki = identity.spki;
  wanted.exchange_spki = mine.spki;
  const nlohmann::json offer{{"format", 1},
                             {"exchange_kid", mine.kid.text()},
                             {"oaep", {"sha1"}},
                             {"issued", rfc3339(clock_.now())}};
  wanted.proof =
      envelope::sign_jws(target_->keys.ops(), keys::info_of(identity), SignatureAlgorithm::kEs256,
                         as_bytes(offer.dump()), "keyagent-exchange-key+jws");
  EXPECT_FALSE(export_key(source_->keys, source_->vault, clock_, wanted).package.empty());
}

TEST_F(ExchangeTest, X2_WhatWasSealedAtTheSourceOpensAtTheTargetUnderTheSameKid) {
  const Bytes envelope = source_->seal(key_, "a record");
  const auto result = import(delivery(exported()));
  EXPECT_TRUE(result.imported);
  EXPECT_EQ(target_->open(key_.kid.text(), envelope), "a record");
  const auto record = target_->keys.find(key_.kid.text());
  EXPECT_EQ(record.name.text(), name());
  EXPECT_EQ(record.state, KeyState::kDeactivated);
  EXPECT_EQ(record.origin, "imported from " + source_->identity.kid.text() + ", request req-1");
  EXPECT_FALSE(record.exchangeable);
  EXPECT_EQ(record.created, source_->keys.find(key_.kid.text()).created);
  EXPECT_TRUE(target_->keys.prove_custody(key_.kid.text()).holds());
  refused(Code::kKeyState, [&] { target_->seal(record, "another"); });
  const auto history = target_->keys.history(key_.kid);
  ASSERT_EQ(history.size(), 1u);
  EXPECT_EQ(history[0].actor, "uid 1000");
}

TEST_F(ExchangeTest, X2_AnOldGenerationTravelsToo) {
  const Bytes envelope = source_->seal(key_, "an old record");
  const auto id = source_->keys.begin_rekey({KeyName(name()), {}, {}, 0ms}, {"test", "tester"}).id;
  source_->keys.make_next_key(id);
  for (const auto event : {keys::RekeyEvent::kConfirmed, keys::RekeyEvent::kSwitchDone})
    source_->keys.record_rekey(id, event, {"test", "tester"});
  const auto fresh = source_->keys.find(name());
  EXPECT_NE(fresh.kid, key_.kid);
  EXPECT_TRUE(fresh.exchangeable) << "a generation is as the one before it";
  ASSERT_EQ(source_->keys.find(key_.kid.text()).state, KeyState::kDeactivated);
  import(delivery(exported()));
  EXPECT_EQ(target_->open(key_.kid.text(), envelope), "an old record");
  key_ = fresh;
  EXPECT_TRUE(import(delivery(exported())).imported);
  EXPECT_EQ(target_->keys.find(key_.kid.text()).generation, 2);
}

TEST_F(ExchangeTest, Fault096_TheSamePackageTwiceIsOneImport) {
  const std::string package = exported();
  EXPECT_TRUE(import(delivery(package)).imported);
  const auto before = target_->vault.objects().size();
  EXPECT_FALSE(import(delivery(package)).imported);
  EXPECT_FALSE(import(delivery(exported())).imported) << "nor is the key when it is wrapped again";
  EXPECT_EQ(target_->vault.objects().size(), before);
}

TEST_F(ExchangeTest, X10_ANameWithOnlyAnImportedKeyGetsItsOwnKey) {
  import(delivery(exported()));
  const auto own = target_->keys.create({KeyName(name()), Purpose::kStorage, {}, {}, true});
  EXPECT_TRUE(own.created);
  EXPECT_EQ(own.record.state, KeyState::kActive);
  EXPECT_EQ(own.record.generation, 2);
  EXPECT_FALSE(target_->keys.create({KeyName(name()), Purpose::kStorage, {}, {}, true}).created);
  EXPECT_EQ(target_->keys.find(name()).kid, own.record.kid);
  refused(Code::kExists, [&] {
    target_->keys.create({KeyName(name()), Purpose::kStorage, {}, {}, false});
  });
}

TEST_F(ExchangeTest, Fault096_APackageForAnotherTargetIsRefused) {
  const std::string package = exported();
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import_at(*third_, delivery(package)); }),
              HasSubstr(target_->identity.kid.text()));
  // A package that names the third as target, but is wrapped for the target.
  const auto relabeled = forged([&](Package& each) {
    each.target = third_->identity.kid;
    each.exchange_kid = third_->exchange.kid;
  });
  refused(Code::kIntegrity, [&] { import_at(*third_, delivery(relabeled)); });
  // One for the target, wrapped for a key that it has not, or that was not asked for.
  const auto elsewhere = forged([&](Package& each) { each.exchange_kid = third_->exchange.kid; });
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import(delivery(elsewhere)); }),
              HasSubstr("not a generation of exchange"));
  auto other_key = delivery(package);
  other_key.exchange_key = "other";
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import(other_key); }),
              HasSubstr("not a generation of other"));
}

TEST_F(ExchangeTest, X2_APackageOfAnotherSpecificationRequestOrTimeIsRefused) {
  const std::string package = exported();
  auto swapped = delivery(package);
  swapped.specification = "payments";
  swapped.name = KeyName("data.payments");
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import(swapped); }), HasSubstr("specification"));
  auto misnamed = delivery(package);
  misnamed.name = KeyName("data.payments");
  refused(Code::kUsage, [&] { import(misnamed); });
  auto other_request = delivery(package);
  other_request.request = "req-2";
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import(other_request); }), HasSubstr("request"));
  const auto future = forged([](Package& each) { each.issued += 1h; });
  refused(Code::kIntegrity, [&] { import(delivery(future)); });
  clock_.advance(24h + 6min);
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import(delivery(package)); }),
              HasSubstr("expired at"));
}

TEST_F(ExchangeTest, Fault095_APackageOfAnotherSourceIsRefused) {
  // The third has all public keys, and its own key that it would have the target use.
  const auto planted = third_->make(name().c_str(), Purpose::kStorage, {}, true);
  auto by_third = order(*target_);
  by_third.key = planted.kid;
  const auto package = export_key(third_->keys, third_->vault, clock_, by_third).package;
  refused(Code::kIntegrity, [&] { import(delivery(package)); });
  // Signed by the third, in the name of the source.
  Package named;
  {
    auto honest = delivery(package);
    honest.source_spki = third_->identity.spki;
    named = check_package(target_->keys, clock_, honest);
  }
  named.source = source_->identity.kid;
  auto as_third =
      delivery(sign_package(third_->keys.ops(), keys::info_of(third_->identity), named));
  refused(Code::kIntegrity, [&] { import(as_third); });
  as_third.source_spki = third_->identity.spki;
  refused(Code::kIntegrity, [&] { import(as_third); });
}

TEST_F(ExchangeTest, Fault090_AKeyIsWrappedOnlyForTheKeyThatThePinnedTargetNames) {
  const test::SoftwareRecipient attacker;
  // The attacker's wrapping key with the target's attestation.
  auto bad = order(*target_);
  bad.exchange_spki = attacker.spki();
  EXPECT_THAT(
      refused(Code::kIntegrity, [&] { export_key(source_->keys, source_->vault, clock_, bad); }),
      HasSubstr(jwk_thumbprint(attacker.spki())));
  // An attestation by another identity, under the pinned one's kid: the error names both.
  bad = order(*third_);
  bad.target = target_->identity.kid;
  const auto text =
      refused(Code::kIntegrity, [&] { export_key(source_->keys, source_->vault, clock_, bad); });
  EXPECT_THAT(text, HasSubstr(target_->identity.kid.text()));
  EXPECT_THAT(text, HasSubstr(third_->identity.kid.text()));
  // The third's signature over the third's key, given as the target's.
  bad = order(*target_);
  bad.proof = third_->offer().proof;
  bad.exchange_spki = third_->exchange.spki;
  refused(Code::kIntegrity, [&] { export_key(source_->keys, source_->vault, clock_, bad); });
  // A word that is too old, or is to come.
  bad = order(*target_);
  clock_.advance(30 * 24h + 6min);
  refused(Code::kIntegrity, [&] { export_key(source_->keys, source_->vault, clock_, bad); });
}

TEST_F(ExchangeTest, AnotherKeyUnderAKidThatIsThereIsRefused) {
  import(delivery(exported()));
  const auto other = source_->make("data.other", Purpose::kStorage, {}, true);
  const Bytes wrapped = source_->keys.wrap_for(other.kid, target_->exchange.spki, OaepHash::kSha1);
  const auto package = forged([&](Package& each) { each.wrapped = wrapped; });
  EXPECT_THAT(refused(Code::kIntegrity, [&] { import(delivery(package)); }),
              HasSubstr("another key already has the kid"));
  // Nor does a package take the place of a key of another purpose.
  const auto posing = forged([&](Package& each) { each.kid = target_->identity.kid; });
  refused(Code::kIntegrity, [&] { import(delivery(posing)); });
}

TEST_F(ExchangeTest, AKeyThatWasDestroyedHereDoesNotComeBack) {
  const std::string package = exported();
  import(delivery(package));
  target_->keys.destroy(key_.kid.text(), {"no longer", "tester"});
  refused(Code::kKeyState, [&] { import(delivery(package)); });
}

TEST_F(ExchangeTest, OnlyKeysThatOpenAndWereBornExchangeableLeave) {
  const auto own = source_->make("data.own", Purpose::kStorage);
  auto of_own = order(*target_);
  of_own.key = own.kid;
  of_own.specification = "own";
  EXPECT_THAT(
      refused(Code::kKeyState, [&] { export_key(source_->keys, source_->vault, clock_, of_own); }),
      HasSubstr("is not exchangeable"));
  auto misnamed = order(*target_);
  misnamed.specification = "own";
  refused(Code::kUsage, [&] { export_key(source_->keys, source_->vault, clock_, misnamed); });
  source_->keys.change_state(key_.kid.text(), KeyState::kSuspended, {"rest", "tester"});
  refused(Code::kKeyState, [&] { exported(); });
  // What was imported stays where it is.
  source_->keys.change_state(key_.kid.text(), KeyState::kActive, {"again", "tester"});
  import(delivery(exported()));
  auto onward = order(*third_);
  refused(Code::kKeyState, [&] { export_key(target_->keys, target_->vault, clock_, onward); });
}

TEST_F(ExchangeTest, X15_AKeyOfOpenSslIsImportedAsOneOfTheSource) {
  const Bytes value = random_bytes(32);
  const auto package = forged([&](Package& each) {
    each.kid = Kid(to_hex(random_bytes(16)));
    each.wrapped = test::SoftwareRecipient::wrap_for(target_->exchange.spki, value);
  });
  const auto record = import(delivery(package)).record;
  const SecretBytes cek = random_secret(32);
  const auto sealed = target_->vault.wrap_cek(record.kid, cek);
  EXPECT_EQ(test::gcm_open(value, sealed.iv, sealed.ciphertext, sealed.tag),
            Bytes(cek.begin(), cek.end()));
}

// Two ways to wrap, as people do it with OpenSSL.
TEST_F(ExchangeTest, X15_AKeyFromOutsideComesInOnceByEitherWayOfWrapping) {
  for (const bool alone : {true, false}) {
    const KeyName name("brought." + specification_ + (alone ? ".alone" : ".layout"));
    const auto ticket = open_ticket(target_->keys, target_->vault, clock_, name, "uid 1000");
    EXPECT_EQ(open_ticket(target_->keys, target_->vault, clock_, name, "uid 1000").key.kid,
              ticket.key.kid)
        << "the same while it is good";
    EXPECT_EQ(ticket.expires, clock_.now() + 2h);
    const Bytes value = random_bytes(32);
    const Bytes wrapped = alone ? test::SoftwareRecipient::oaep(ticket.key.spki, value)
                                : test::SoftwareRecipient::wrap_for(ticket.key.spki, value);
    const auto found = find_ticket(target_->keys, target_->vault, clock_, name, "uid 1000");
    const auto record = bring_key(target_->keys, clock_, found, name, wrapped, "uid 1000");
    EXPECT_EQ(record.state, KeyState::kActive);
    EXPECT_THAT(record.origin, HasSubstr("brought from outside"));
    EXPECT_TRUE(target_->keys.prove_custody(record.kid.text()).holds());
    const SecretBytes cek = random_secret(32);
    const auto sealed = target_->vault.wrap_cek(record.kid, cek);
    EXPECT_EQ(test::gcm_open(value, sealed.iv, sealed.ciphertext, sealed.tag),
              Bytes(cek.begin(), cek.end()));
    refused(Code::kKeyNotPresent,
            [&] { find_ticket(target_->keys, target_->vault, clock_, name, "uid 1000"); });
    EXPECT_FALSE(target_->vault.find(ticket.key.cka_id)) << "it served once";
  }
}

TEST_F(ExchangeTest, X15_ATicketIsOverAfterTwoHours) {
  const KeyName name("brought." + specification_);
  const auto ticket = open_ticket(target_->keys, target_->vault, clock_, name, "uid 1000");
  clock_.advance(2h);
  EXPECT_NO_THROW(find_ticket(target_->keys, target_->vault, clock_, name, "uid 1000"));
  clock_.advance(1s);
  try {
    find_ticket(target_->keys, target_->vault, clock_, name, "uid 1000");
    ADD_FAILURE() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(exit_code(error.code()), 3) << error.what();
  }
  EXPECT_FALSE(target_->vault.find(ticket.key.cka_id)) << "and destroyed";
  EXPECT_NE(open_ticket(target_->keys, target_->vault, clock_, name, "uid 1000").key.kid,
            ticket.key.kid);
}

TEST_F(ExchangeTest, X15_AWrongPaddingIsExit6AndNamesTheExpectedOne) {
  const KeyName name("brought." + specification_);
  const auto ticket = open_ticket(target_->keys, target_->vault, clock_, name, "uid 1000");
  const auto bring = [&](const Bytes& wrapped) {
    return bring_key(target_->keys, clock_, ticket, name, wrapped, "uid 1000");
  };
  using Recipient = test::SoftwareRecipient;
  const std::vector<Bytes> bad{
      Recipient::oaep(ticket.key.spki, random_bytes(32), RSA_PKCS1_PADDING),
      Recipient::oaep(ticket.key.spki, random_bytes(32), RSA_PKCS1_OAEP_PADDING, EVP_sha256()),
      Recipient::oaep(ticket.key.spki, random_bytes(31)),
      random_bytes(384),
      random_bytes(424),
      {}};
  for (const auto& wrapped : bad) {
    const auto text = refused(Code::kIntegrity, [&] { bring(wrapped); });
    EXPECT_THAT(text, HasSubstr("RSAES-OAEP (SHA-1"));
  }
  EXPECT_EQ(bring(Recipient::oaep(ticket.key.spki, random_bytes(32))).state, KeyState::kActive)
      << "the ticket is good for another attempt";
}

TEST_F(ExchangeTest, X15_ANameThatHasAnActiveKeyKeepsIt) {
  const KeyName name("brought." + specification_);
  const auto own = target_->make(name.text().c_str(), Purpose::kStorage);
  const auto ticket = open_ticket(target_->keys, target_->vault, clock_, name, "uid 1000");
  const auto record =
      bring_key(target_->keys, clock_, ticket, name,
                test::SoftwareRecipient::oaep(ticket.key.spki, random_bytes(32)), "uid 1000");
  EXPECT_EQ(record.state, KeyState::kDeactivated);
  EXPECT_EQ(target_->keys.find(name.text()).kid, own.kid);
}

TEST_F(ExchangeTest, Fault089_NoKeyOfAnExchangeDecryptsWhatAnotherWraps) {
  import(delivery(exported()));
  for (Agent* agent : {source_.get(), target_.get()}) {
    for (const auto& record : agent->keys.list()) {
      if (record.state == KeyState::kDestroyed) continue;
      const auto custody = agent->keys.prove_custody(record.kid.text());
      EXPECT_NE(custody.wrap, true) << record.name.text();
      EXPECT_FALSE(custody.unwrap == true && custody.decrypt == true) << record.name.text();
      EXPECT_TRUE(custody.read_refused) << record.name.text();
      EXPECT_TRUE(custody.copy_refused) << record.name.text();
    }
  }
}

TEST_F(ExchangeTest, AKeyStaysUsableAfterTheAgentsStartAgain) {
  const Bytes envelope = source_->seal(key_, "a record");
  import(delivery(exported()));
  target_->keys.reconcile();
  EXPECT_EQ(target_->open(key_.kid.text(), envelope), "a record");
  EXPECT_TRUE(target_->keys.findings().empty());
}

}  // namespace
}  // namespace keyagent::exchange
