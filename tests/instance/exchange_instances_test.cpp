// SPDX-License-Identifier: Apache-2.0
// Two real instances, each on its host's token, and their people's commands.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/instance/exchange_pair.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class ExchangeInstances : public ExchangePair {
 protected:
  static void SetUpTestSuite() { start(); }
  static void TearDownTestSuite() { end(); }

  static Json check(const std::string& peer) {
    const auto result = target_->keyagent("crypto", "--json exchange check " + peer);
    const Json answer = Json::parse(result.output, nullptr, false);
    EXPECT_TRUE(answer.is_object()) << result.output << read_text(target_->log());
    return answer;
  }
};

TEST_F(ExchangeInstances, X3_APeerIsItsPinnedKeyAndTheHostIsOnlyTheWay) {
  const auto source = identity(*source_), target = identity(*target_);
  EXPECT_EQ(identity(*source_), source);  // made once
  ASSERT_NE(source, target);
  ASSERT_EQ(add(*target_, "source", *source_, source).status, 0);
  // Not yet a peer there: no one signed the refusal, it is a fault of the way.
  EXPECT_EQ(check("source").at("checks").at(2).at("code"), "PEER");
  ASSERT_EQ(add(*source_, "target", *target_, target).status, 0);
  const Json checks = check("source").at("checks"), &reached = checks.at(2);
  EXPECT_EQ(reached.at("passed"), true) << reached.dump() << read_text(source_->log());
  EXPECT_EQ(reached.at("text"), source);
  // Of what was not named: all that is there.
  EXPECT_EQ(checks.at(4).at("what"), "the source has keys of instance-credentials");
  EXPECT_EQ(checks.at(4).at("code"), "KEY_STATE");
  EXPECT_THAT(checks.at(4).at("text").get<std::string>(), HasSubstr("--exchangeable"));
  const auto seen = source_->json("ops", "peer list").at("peers").at(0);
  EXPECT_EQ(seen.at("identity"), target);
  EXPECT_TRUE(seen.at("seen").is_string());
  // The right host with another key: a name that was given to the other instance's address.
  ASSERT_EQ(target_->keyagent("crypto", "peer remove source").status, 0);
  std::string wrong = source;
  wrong[0] = wrong[0] == 'A' ? 'B' : 'A';
  ASSERT_EQ(add(*target_, "source", *source_, wrong).status, 0);
  const Json refused = check("source").at("checks").at(2);
  EXPECT_EQ(refused.at("code"), "INTEGRITY");
  EXPECT_THAT(refused.at("text").get<std::string>(), HasSubstr(wrong));
  EXPECT_THAT(refused.at("text").get<std::string>(), HasSubstr(source));
  EXPECT_EQ(target_->keyagent("crypto", "exchange check source").status, 6);
  ASSERT_EQ(target_->keyagent("crypto", "peer remove source").status, 0);
}

TEST_F(ExchangeInstances, X3_ThePeersServerMustHaveACertificateOfThePinnedCa) {
  const auto other = target_->keyagent(
      "crypto", "peer add elsewhere --identity=" + identity(*source_) + " --url " +
                    source_->api_url() + " --ca=" + target_->fingerprint);
  ASSERT_EQ(other.status, 0) << other.output;
  EXPECT_EQ(check("elsewhere").at("checks").at(2).at("code"), "PEER_KEY");
  ASSERT_EQ(target_->keyagent("crypto", "peer remove elsewhere").status, 0);
}

TEST_F(ExchangeInstances, X16_PeersAndExchangesAreForCryptographicManagers) {
  EXPECT_EQ(target_->keyagent("ops", "exchange identity").status, 3);
  EXPECT_EQ(target_->keyagent("ops", "peer remove source").status, 3);
  EXPECT_EQ(target_->keyagent("ops", "exchange request source cards").status, 3);
  EXPECT_EQ(target_->keyagent("ops", "exchange approve 5f0c").status, 3);
  EXPECT_EQ(target_->keyagent("ops", "exchange list").status, 0);
  EXPECT_EQ(target_->keyagent("crypto", "exchange show 5f0c").status, 2);
  EXPECT_EQ(target_->keyagent("crypto", "exchange request nobody cards").status, 2);
  EXPECT_EQ(add(*target_, "self", *target_, identity(*target_)).status, 2);
}

// Keys of the one's token in the other's.
class ExchangeWhole : public ExchangePair {
 protected:
  static void SetUpTestSuite() {
    start();
    introduce();
  }
  static void TearDownTestSuite() { end(); }
};

TEST_F(ExchangeWhole, X1_X2_ADataKeyGoesFromTokenToTokenAndOpensWhatWasSealedBefore) {
  const auto kid = make_key("cards");
  const auto envelope = seal("cards", "4111");
  EXPECT_EQ(code_of([&] { open(*target_, envelope); }), Code::kKeyNotPresent);
  EXPECT_EQ(target_->keyagent("crypto", "exchange check source cards").status, 0);
  const auto id = ask("cards");
  EXPECT_EQ(show(*target_, id).at("state"), "pending");
  ASSERT_EQ(approve(id).status, 0);
  const auto waited = target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 60");
  EXPECT_EQ(waited.status, 0) << waited.output << read_text(source_->log())
                              << read_text(target_->log());
  const Json there = show(*source_, id), here = show(*target_, id);
  EXPECT_EQ(there.at("state"), "complete");
  EXPECT_EQ(here.at("transcript"), there.at("transcript"));
  EXPECT_EQ(here.at("keys").at(0).at("kid"), kid);
  EXPECT_EQ(here.at("keys").at(0).at("outcome"), "imported");
  EXPECT_EQ(open(*target_, envelope), "4111");
  // The same again: it is there.
  const auto again = ask("cards");
  ASSERT_EQ(approve(again).status, 0);
  ASSERT_EQ(target_->keyagent("crypto", "exchange show " + again + " --wait --timeout 60").status,
            0);
  EXPECT_EQ(show(*target_, again).at("keys").at(0).at("outcome"), "already_there");
}

TEST_F(ExchangeWhole, X7_WhatTheAgentDoesNotGiveIsRefusedWithItsReason) {
  make_key("local", "");
  const auto id = ask("local gone");
  ASSERT_EQ(approve(id).status, 0);
  const auto waited = target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 60");
  EXPECT_EQ(waited.status, 3) << waited.output;
  const Json keys = show(*target_, id).at("keys");
  const Json there = show(*source_, id);
  EXPECT_EQ(there.at("state"), "failed");
  EXPECT_EQ(there.at("keys").at(0).at("outcome"), "not_found");
  EXPECT_EQ(there.at("keys").at(1).at("outcome"), "refused");
  EXPECT_EQ(there.at("keys").at(1).at("code"), "KEY_STATE");
}

// The instance asks its agent for nothing that the approver may not give.
TEST_F(ExchangeWhole, X13_WhatItsSpecificationDoesNotLetTheApproverExchangeIsRefused) {
  make_key("sealed", "--exchangeable", "admin");
  const auto id = ask("sealed");
  ASSERT_EQ(approve(id).status, 0);
  EXPECT_EQ(target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 60").status, 3);
  EXPECT_EQ(show(*source_, id).at("keys").at(0).at("code"), "DENIED");
  EXPECT_THAT(source_->keyagent("crypto", "specification why sealed exchange").output,
              HasSubstr("not exchange"));
}

TEST_F(ExchangeWhole, X5_X9_X11_CopiedRecordsAreReadAfterTheImportAndReencryptedUnderAnotherKey) {
  const auto kid = make_key("pay");
  std::ofstream(source_->work.path() / "value") << "4711 EUR";
  ASSERT_EQ(source_->keyagent("ops", "record put pay 7 --from value").status, 0);
  copy("pay", "7");
  const auto before = target_->keyagent("ops", "record get pay 7");
  EXPECT_EQ(before.status, 3);
  EXPECT_THAT(before.output, HasSubstr("kid=" + kid));
  EXPECT_THAT(before.output, HasSubstr(identity(*source_)));
  const auto id = ask("pay --rekey");
  ASSERT_EQ(approve(id).status, 0);
  const auto waited = target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 60");
  ASSERT_EQ(waited.status, 0) << waited.output << read_text(target_->log());
  EXPECT_EQ(target_->keyagent("ops", "record get pay 7").output, "4711 EUR");
  Json job;
  EXPECT_TRUE(wait_until([&] {
    job = target_->json("crypto", "reencrypt status pay").at("reencryptions").at(0);
    return job.at("state") == "complete";
  })) << job.dump()
      << read_text(target_->log());
  EXPECT_EQ(job.at("census").size(), 1u);
  EXPECT_EQ(job.at("census").at(0).at("records"), 1);
  EXPECT_NE(job.at("census").at(0).at("kid"), kid);
  EXPECT_EQ(target_->keyagent("ops", "record get pay 7").output, "4711 EUR");
}

// Two separate instances, because the test replaces their identities.
class ExchangeIdentity : public ExchangePair {
 protected:
  void SetUp() override {
    start();
    introduce();
  }
  void TearDown() override { end(); }

  static std::string rekey(const InstanceProcess& at) {
    auto connection = at.agent.client();
    wire::Request request, show;
    request.mutable_rekey()->set_name("exchange-identity");
    show.mutable_key_show()->set_key("exchange-identity");
    const auto old = connection.call(show).key_show().key().kid();
    connection.call(request);
    std::string now;
    EXPECT_TRUE(wait_until([&] {
      now = connection.call(show).key_show().key().kid();
      return now != old;
    }));
    EXPECT_EQ(identity(at), now);
    return now;
  }
  static CommandResult pin(const InstanceProcess& at, const std::string& name,
                           const std::string& identity, const std::string& before) {
    return at.keyagent("crypto",
                       "peer add " + name + " --identity=" + identity + " --replaces=" + before);
  }
  static CommandResult wait(const std::string& id) {
    return target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 60");
  }
};

TEST_F(ExchangeIdentity, X3_IsReplacedAtEitherEndAndAgreedExchangesContinue) {
  make_key("cards");
  const auto source = identity(*source_), target = identity(*target_);
  ASSERT_EQ(
      source_
          ->keyagent("crypto",
                     "peer automatic target --frequency recurring-clone --specification cards")
          .status,
      0);
  const auto series = ask("cards --frequency recurring-clone");
  ASSERT_EQ(wait(series).status, 0);

  const auto new_source = rekey(*source_);
  EXPECT_THAT(source_->json("crypto", "peer list").dump(), HasSubstr("recurring-clone"));
  const auto refused = target_->keyagent("crypto", "exchange check source cards");
  EXPECT_EQ(refused.status, 6);
  EXPECT_THAT(refused.output, HasSubstr(new_source));
  EXPECT_EQ(pin(*target_, "source", new_source, target).status, 3) << "that was not its identity";
  ASSERT_EQ(pin(*target_, "source", new_source, source).status, 0);
  EXPECT_EQ(pin(*target_, "source", new_source, source).status, 0) << "again";
  target_->allow_exchange_with(new_source);
  EXPECT_EQ(target_->keyagent("crypto", "exchange check source cards").status, 0);

  const auto new_target = rekey(*target_);
  EXPECT_EQ(target_->json("crypto", "exchange list").at("exchanges").size(), 1u) << "its own still";
  ASSERT_EQ(pin(*source_, "target", new_target, target).status, 0);
  source_->allow_exchange_with(new_target);
  const auto next = next_of(series);
  EXPECT_EQ(wait(next).status, 0) << read_text(source_->log()) << read_text(target_->log());
  EXPECT_EQ(show(*source_, next).at("transcript"), show(*target_, next).at("transcript"));
}

}  // namespace
}  // namespace keyagent::test
