// SPDX-License-Identifier: Apache-2.0
// Key exchange through the gate: who may export to which peer, what is audited, failure budgets.

#include <set>

#include "agent/base/encoding.h"
#include "agent/exchange/package.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using testing::HasSubstr;
using testing::Not;

class GateExchangeTest : public GateTest {
 protected:
  static constexpr std::uint32_t kInstance = 1001;

  // One agent is both sides here: two identities in one token.
  GateExchangeTest() {
    options_.failures_per_key_per_day = 3;
    policy_ = policy::parse_policy(policy_text({}), "policy.yml");
    source_ = create("exchange-identity", "identity");
    target_ = create("their-identity", "identity");
    exchange_ = create("exchange", "exchange", "rsa-2048");
    key_ = create_data_key("data.customers", true);
    policy_ = policy::parse_policy(policy_text(target_.kid()), "policy.yml");
  }
  static std::string policy_text(const std::string& target) {
    std::string text = R"(
rules:
  - name: admin
    allow: [create, public, prove, status, sign, suspend, seal, open]
    who: {user: "1000"}
  - name: instance-imports
    allow: [import, public]
    keys: ["data.*", exchange]
    who: {user: "1001"}
  - name: instance-vouches
    allow: [sign, public]
    keys: [exchange-identity, their-identity, exchange]
    who: {user: "1001"}
)";
    if (target.empty()) return text;
    return text +
           "  - name: customers-may-go\n    allow: [export]\n    keys: [\"data.customers\"]\n"
           "    peers: [" +
           target + "]\n    who: {user: \"1001\"}\n";
  }
  wire::Key create_data_key(const std::string& name, bool exchangeable) {
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose("storage");
    request.mutable_key_create()->set_exchangeable(exchangeable);
    const auto response = ask(kAdmin, request);
    EXPECT_FALSE(response.has_failure()) << response.failure().text();
    EXPECT_EQ(response.key_create().key().exchangeable(), exchangeable);
    return response.key_create().key();
  }
  wire::ExchangeOfferReply offer() {
    wire::Request request;
    request.mutable_exchange_offer()->set_exchange_key("exchange");
    request.mutable_exchange_offer()->set_identity("their-identity");
    const auto response = ask(kInstance, request);
    EXPECT_FALSE(response.has_failure()) << response.failure().text();
    return response.exchange_offer();
  }
  wire::Request export_request(const std::string& key = "data.customers") {
    const auto offered = offer();
    wire::Request request;
    auto& order = *request.mutable_exchange_export();
    order.set_key(key);
    order.set_request("req-1");
    order.set_specification(key.substr(5));
    order.set_identity("exchange-identity");
    order.set_target(target_.kid());
    order.set_target_spki(offered.target_spki());
    order.set_exchange_spki(offered.exchange_spki());
    order.set_proof(offered.proof());
    return request;
  }
  wire::Request import_request(const std::string& package) {
    wire::Request request;
    auto& order = *request.mutable_exchange_import();
    order.set_package(package);
    order.set_request("req-1");
    order.set_specification("customers");
    order.set_source_spki(source_.spki());
    order.set_exchange_key("exchange");
    order.set_name("data.customers");
    return request;
  }
  // Signed by the source as it should be, and wrapped by no one.
  std::string package_that_does_not_unwrap() {
    const auto record = keys_.find("exchange-identity");
    exchange::Package package;
    package.request = "req-1";
    package.specification = "customers";
    package.source = Kid(source_.kid());
    package.target = Kid(target_.kid());
    package.exchange_kid = Kid(exchange_.kid());
    package.kid = Kid(to_hex(random_bytes(16)));
    package.issued = package.created = system_clock().now();
    package.expires = package.issued + exchange::kPackageLife;
    package.wrapped = random_bytes(256 + 40);
    return exchange::sign_package(keys_.ops(),
                                  {record.kid, record.name.text(), record.algorithm, record.purpose,
                                   record.envelope, record.spki},
                                  package);
  }
  int refused(std::uint32_t uid, const wire::Request& request) {
    const auto response = ask(uid, request);
    EXPECT_TRUE(response.has_failure());
    return response.failure().code();
  }

  wire::Key source_, target_, exchange_, key_;
};

TEST_F(GateExchangeTest, X6_AKeyLeavesForThePinnedTargetAndComesInOnce) {
  const auto exported = ask(kInstance, export_request());
  ASSERT_FALSE(exported.has_failure()) << exported.failure().text();
  EXPECT_EQ(exported.exchange_export().kid(), key_.kid());
  const auto imported = ask(kInstance, import_request(exported.exchange_export().package()));
  ASSERT_FALSE(imported.has_failure()) << imported.failure().text();
  EXPECT_FALSE(imported.exchange_import().imported()) << "this agent has it: it made it";
  EXPECT_EQ(imported.exchange_import().key().kid(), key_.kid());
  EXPECT_FALSE(imported.exchange_import().key().exchangeable() &&
               !imported.exchange_import().key().origin().empty());
}

TEST_F(GateExchangeTest, X6_NothingLeavesUnlessARuleNamesTheTarget) {
  auto request = export_request();
  EXPECT_EQ(refused(kAdmin, request), wire::DENIED) << "may create it, may not export it";
  EXPECT_EQ(refused(kStranger, request), wire::DENIED);
  request.mutable_exchange_export()->set_target(source_.kid());
  const auto other = ask(kInstance, request);
  EXPECT_EQ(other.failure().code(), wire::DENIED) << "a target that no rule names";
  EXPECT_THAT(other.failure().text(),
              HasSubstr("keyagent why export --peer=" + source_.kid() + " data.customers"));
  create_data_key("data.payments", true);
  EXPECT_EQ(refused(kInstance, export_request("data.payments")), wire::DENIED);
  policy_ = policy::parse_policy(policy_text({}), "policy.yml");
  EXPECT_EQ(refused(kInstance, export_request()), wire::DENIED) << "no rule, no export";
}

TEST_F(GateExchangeTest, WhyNamesTheRuleThatDecidesForAPeer) {
  wire::Request request;
  request.mutable_why()->set_action("export");
  request.mutable_why()->set_key("data.customers");
  EXPECT_FALSE(ask(kInstance, request).why().allowed());
  request.mutable_why()->set_peer(target_.kid());
  EXPECT_EQ(ask(kInstance, request).why().rule(), "customers-may-go");
  request.mutable_why()->set_action("import");
  request.mutable_why()->set_key("data.not-here-yet");
  EXPECT_EQ(ask(kInstance, request).why().rule(), "instance-imports");
}

TEST_F(GateExchangeTest, Fault090_TheKeyToWrapForIsTheTargetsWordNotTheCallers) {
  auto request = export_request();
  request.mutable_exchange_export()->set_exchange_spki(target_.spki());
  EXPECT_NE(refused(kInstance, request), wire::OK);
  request = export_request();
  request.mutable_exchange_export()->set_exchange_spki(
      create("theirs", "exchange", "rsa-2048").spki());
  EXPECT_EQ(refused(kInstance, request), wire::INTEGRITY);
  request = export_request();
  request.mutable_exchange_export()->set_target_spki(source_.spki());
  EXPECT_EQ(refused(kInstance, request), wire::INTEGRITY);
  request = export_request();
  request.mutable_exchange_export()->clear_proof();
  EXPECT_EQ(refused(kInstance, request), wire::INTEGRITY);
  request = export_request();
  request.mutable_exchange_export()->set_identity("exchange");
  EXPECT_EQ(refused(kInstance, request), wire::USAGE) << "no identity";
}

TEST_F(GateExchangeTest, Fault094_WhatDoesNotUnwrapIsOneAnswerOnABeatAndCosts) {
  std::set<std::string> texts;
  for (int i = 0; i < 3; ++i) {
    const auto asked = ask_later(kInstance, import_request(package_that_does_not_unwrap()));
    const auto response = asked->wait();
    EXPECT_EQ(response.failure().code(), wire::INTEGRITY) << response.failure().text();
    EXPECT_TRUE(asked->when().has_value()) << "answered at a time of the gate's choosing";
    texts.insert(response.failure().text());
  }
  EXPECT_EQ(texts.size(), 1u);
  const auto good = ask(kInstance, export_request()).exchange_export().package();
  EXPECT_EQ(refused(kInstance, import_request(good)), wire::KEY_STATE) << "three were too many";
  gate().forgive(3);
  EXPECT_FALSE(ask(kInstance, import_request(good)).has_failure());
}

// To sign as someone is a use of that key: a rule for the data key alone does not allow it.
TEST_F(GateExchangeTest, Fault145_WhoMayNotSignWithTheIdentityOffersAndExportsNothing) {
  const auto offered = export_request();
  create("codesign", "sign");
  const std::string rules = R"(
rules:
  - {name: imports, allow: [import, public], keys: ["data.*", exchange], who: {user: "1001"}}
  - {name: signs-one, allow: [sign], keys: [codesign], who: {user: "1001"}}
  - {name: exports, allow: [export], keys: ["data.*"], peers: [)" +
                            target_.kid() + R"(], who: {user: "1001"}}
)";
  policy_ = policy::parse_policy(rules, "policy.yml");
  wire::Request offer;
  offer.mutable_exchange_offer()->set_exchange_key("exchange");
  offer.mutable_exchange_offer()->set_identity("their-identity");
  auto refusal = ask(kInstance, offer);
  EXPECT_EQ(refusal.failure().code(), wire::DENIED) << refusal.failure().text();
  EXPECT_THAT(refusal.failure().text(), HasSubstr("keyagent why sign their-identity"));
  EXPECT_THAT(audit_lines().back(),
              HasSubstr("refused: exchange.offer, signed by their-identity " + target_.kid()));
  refusal = ask(kInstance, offered);
  EXPECT_EQ(refusal.failure().code(), wire::DENIED) << refusal.failure().text();
  EXPECT_THAT(audit_lines().back(), HasSubstr("signed by exchange-identity " + source_.kid()));
  // The answer for a missing key is the same as for a key that the caller may not see.
  offer.mutable_exchange_offer()->set_identity("nothing-here");
  EXPECT_EQ(refused(kInstance, offer), wire::DENIED);
  EXPECT_THAT(ask(kInstance, offer).failure().text(),
              HasSubstr("may not sign with key nothing-here"));
  // The identity that it may use signs the offer, and the audit log names that identity.
  offer.mutable_exchange_offer()->set_identity("codesign");
  EXPECT_FALSE(ask(kInstance, offer).has_failure());
  EXPECT_THAT(audit_lines().back(), HasSubstr("signed by codesign"));
}

TEST_F(GateExchangeTest, Fault144_AnOfferIsForAnExchangeKeyOfThisTokenThatIsInUse) {
  wire::Request offer;
  offer.mutable_exchange_offer()->set_identity("their-identity");
  const auto asked = [&](const std::string& key) {
    offer.mutable_exchange_offer()->set_exchange_key(key);
    return refused(kInstance, offer);
  };
  EXPECT_EQ(asked("data.customers"), wire::USAGE) << "no exchange key";
  EXPECT_EQ(asked("data.not-here"), wire::KEY_NOT_PRESENT);
  EXPECT_EQ(asked(std::string(43, 'A')), wire::DENIED) << "an unknown kid";
  keys_.change_state("exchange", KeyState::kSuspended, {"test"});
  EXPECT_EQ(asked("exchange"), wire::KEY_STATE);
}

// The right to import from a pinned peer does not include the right to import keys from outside.
TEST_F(GateExchangeTest, X15_AKeyFromOutsideNeedsARuleWithoutPeersOrWithOutside) {
  wire::Request request;
  request.mutable_import_ticket()->set_name("data.brought");
  const auto with_peers = [&](const std::string& peers) {
    policy_ = policy::parse_policy(
        "rules:\n  - {name: in, allow: [import], keys: [\"data.*\"], peers: [" + peers +
            "], who: {user: \"1001\"}}\n",
        "policy.yml");
  };
  with_peers(source_.kid());
  EXPECT_EQ(refused(kInstance, request), wire::DENIED);
  with_peers(source_.kid() + ", outside");
  const auto ticket = ask(kInstance, request);
  ASSERT_FALSE(ticket.has_failure()) << ticket.failure().text();
  EXPECT_EQ(ticket.import_ticket().hash(), "SHA-1");
  wire::Request bring;
  bring.mutable_import_outside()->set_name("data.brought");
  bring.mutable_import_outside()->set_wrapped(std::string(384, 'x'));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(refused(kInstance, bring), wire::INTEGRITY);
  EXPECT_EQ(refused(kInstance, bring), wire::KEY_STATE) << "three were too many";
}

TEST_F(GateExchangeTest, Fault096_APackageOfAnotherRequestCostsNothing) {
  const auto package = ask(kInstance, export_request()).exchange_export().package();
  auto other = import_request(package);
  other.mutable_exchange_import()->set_request("req-2");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(refused(kInstance, other), wire::INTEGRITY);
  EXPECT_FALSE(ask(kInstance, import_request(package)).has_failure());
}

TEST_F(GateExchangeTest, EachExportAndImportIsRecordedWithKeyAndPeer) {
  const auto package = ask(kInstance, export_request()).exchange_export().package();
  ask(kInstance, import_request(package));
  refused(kStranger, import_request(package));
  const auto lines = audit_lines();
  const auto line_of = [&](const std::string& what, const std::string& outcome) {
    for (const auto& line : lines) {
      if (line.find("\"" + what + "\"") != line.npos &&
          line.find("\"" + outcome + "\"") != line.npos)
        return line;
    }
    return std::string();
  };
  EXPECT_THAT(line_of("key.export", "begun"), HasSubstr(key_.kid()));
  const auto exported = line_of("key.export", "ok");
  EXPECT_THAT(exported, HasSubstr(target_.kid()));
  EXPECT_THAT(exported, HasSubstr("req-1"));
  EXPECT_THAT(exported, HasSubstr("customers-may-go"));
  const auto imported = line_of("key.import", "ok");
  EXPECT_THAT(imported, HasSubstr("data.customers"));
  EXPECT_THAT(imported, HasSubstr(key_.kid()));
  EXPECT_THAT(line_of("refused", "DENIED"), HasSubstr("key.import"));
  for (const auto& line : lines) EXPECT_THAT(line, Not(HasSubstr(package.substr(0, 40))));
}

TEST_F(GateExchangeTest, ShowSaysOfAnExchangeableKeyWhatItIsAndThatItHolds) {
  create_data_key("data.own", false);
  const auto show = [&](const char* name) {
    wire::Request request;
    request.mutable_key_show()->set_key(name);
    request.mutable_key_show()->set_prove(true);
    return ask(kAdmin, request).key_show();
  };
  for (const char* name : {"data.customers", "data.own"}) {
    const auto proof = show(name);
    EXPECT_TRUE(proof.holds()) << name;
    for (const auto& fact : proof.custody()) EXPECT_TRUE(fact.good()) << name << " " << fact.name();
  }
  const auto reply = show("data.customers");
  EXPECT_TRUE(reply.key().exchangeable());
  std::string wrap;
  for (const auto& fact : reply.custody()) {
    if (fact.name() == "attempt to wrap the key out") wrap = fact.value();
  }
  EXPECT_THAT(wrap, HasSubstr("possible"));
}

}  // namespace
}  // namespace keyagent::gate
