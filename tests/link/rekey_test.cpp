// SPDX-License-Identifier: Apache-2.0
// Keys of the link switch to their next generation when the instance confirms it with a signature.

#include "tests/link/link_fixture.h"

namespace keyagent::link {
namespace {

using keys::RekeyStep;

TEST_F(LinkTest, R6_TransportKeyIsRekeyedWhileCredentialsAreRead) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  pump();
  const std::string old = status().transport_kid();
  std::atomic<bool> done{false};
  std::atomic<int> read{0}, failed{0};
  std::thread reader([&] {
    while (!done) {
      const auto response = get(kDatabase, "db-main");
      if (response.failure().code() == wire::BUSY) continue;
      ++(response.credential_get().value() == "s3cret" ? read : failed);
    }
  });
  const auto id = begin_rekey("credentials");
  EXPECT_TRUE(eventually([&] { return step(id) == RekeyStep::kDraining; }));
  done = true;
  reader.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(read, 0);
  EXPECT_NE(instance_.transport_kid("web1"), old);
  EXPECT_EQ(instance_.transport_kid("web1"), keys_.find("credentials").kid.text());
  EXPECT_TRUE(told("link.confirmed", "signed: "));
}

TEST_F(LinkTest, R7_RekeyWaitsForAnUnreachableInstanceBeforeTheSwitch) {
  connect();
  const std::string old = status().transport_kid();
  instance_.go_away();
  pump();
  const auto id = begin_rekey("credentials");
  ASSERT_TRUE(eventually([this] { return told("rekey.waits", "not confirmed"); }));
  EXPECT_EQ(step(id), RekeyStep::kGenerated);
  EXPECT_EQ(keys_.find("credentials").kid.text(), old);
  instance_.come_back();
  EXPECT_TRUE(eventually([&] { return step(id) == RekeyStep::kDraining; }));
}

TEST_F(LinkTest, R7_ChallengeForAnotherKeyAbortsTheRekeyAndKeepsTheOldKey) {
  connect();
  const std::string old = status().transport_kid();
  instance_.mischief.foreign_challenge = true;
  const auto id = begin_rekey("credentials");
  pump();
  EXPECT_TRUE(eventually([&] { return step(id) == RekeyStep::kAborted; })) << last_told();
  EXPECT_EQ(keys_.find("credentials").kid.text(), old);
  EXPECT_TRUE(told("link.confirmation", "challenge"));
}

class Confirmation : public LinkTest,
                     public testing::WithParamInterface<std::atomic<bool> test::Mischief::*> {};

TEST_P(Confirmation, R10_ThatIsNotTheInstancesOwnEndsNoRekey) {
  connect();
  instance_.mischief.*GetParam() = true;
  const auto id = begin_rekey("credentials");
  pump();
  ASSERT_TRUE(eventually([this] { return told("link.confirmation"); })) << last_told();
  EXPECT_EQ(step(id), RekeyStep::kSwitched);
  EXPECT_FALSE(told("link.confirmed"));
  instance_.mischief.*GetParam() = false;
  EXPECT_TRUE(eventually([&] { return step(id) == RekeyStep::kDraining; }));
}

INSTANTIATE_TEST_SUITE_P(Forged, Confirmation,
                         testing::Values(&test::Mischief::forged_confirmation,
                                         &test::Mischief::other_confirmation));

TEST_F(LinkTest, R10_OrderThatIsRepeatedIsOneRekeyAndIsReported) {
  connect();
  pump();
  for (int i = 0; i < 3; ++i) instance_.order_rekey("order-1", "transport");
  ASSERT_TRUE(eventually([this] {
    const auto steps = instance_.reports("order-1");
    return !steps.empty() && steps.back() == "draining";
  }));
  // As at each welcome until the instance knows of the end.
  instance_.order_rekey("order-1", "transport");
  instance_.go_away();
  instance_.come_back();
  ASSERT_TRUE(reaches("connected"));
  const auto before = instance_.reports("order-1").size();
  instance_.order_rekey("order-1", "transport");
  ASSERT_TRUE(eventually([&] { return instance_.reports("order-1").size() > before; }));
  ASSERT_EQ(keys_.rekeys().size(), 1u);
  EXPECT_EQ(keys_.rekeys()[0].actor, "internal:instance");
  EXPECT_THAT(keys_.rekeys()[0].reason, HasSubstr("order-1"));
}

TEST_F(LinkTest, R10_OrderOfBeforeACrashIsFoundInTheLedger) {
  connect();
  instance_.order_rekey("order-1", "transport");
  ASSERT_TRUE(eventually([this] { return keys_.rekeys().size() == 1; }));
  link_->stop();
  // The state file was not written anymore.
  const auto path = hsm_.folder() / "state";
  LinkStore store(path);
  store.update([](LinkState& state) { state.orders.clear(); });
  open_link();
  link_->start();
  pump();
  ASSERT_TRUE(eventually([this] {
    const auto steps = instance_.reports("order-1");
    return !steps.empty() && steps.back() == "draining";
  }));
  EXPECT_EQ(keys_.rekeys().size(), 1u);
}

TEST_F(LinkTest, R10_OrderForAnUnknownKeyFailsAndIsReported) {
  connect();
  instance_.order_rekey("17", "storage");
  ASSERT_TRUE(
      eventually([this] { return instance_.reports("17") == std::vector<std::string>{"failed"}; }));
  EXPECT_TRUE(keys_.rekeys().empty());
}

// Orders that a compromised instance could send.
TEST_F(LinkTest, Fault133_NoOrderDestroysRevokesSuspendsOrExportsAKey) {
  connect();
  create("backup", "storage");
  const auto states = [this] {
    std::map<std::string, std::string> out;
    for (const auto& key : keys_.list()) out[key.kid.text()] = name_of(key.state);
    return out;
  };
  const auto before = states();
  const auto epoch = keys_.epoch();
  test::shim::reset_counts();
  for (const char* type : {"destroy", "key.destroy", "retire", "revoke", "suspend", "export",
                           "exchange.export", "import", "open", "sign", "policy", "leave"}) {
    for (const auto& key : keys_.list()) {
      instance_.say("web1", nlohmann::json{{"type", type},
                                           {"id", "1"},
                                           {"key", key.name.text()},
                                           {"kid", key.kid.text()},
                                           {"confirm_kid", key.kid.text()},
                                           {"state", "compromised"},
                                           {"yes", true}}
                                .dump());
    }
  }
  // It comes after them on the same link: they have all been read.
  instance_.order_rekey("17", "no-such-key");
  ASSERT_TRUE(
      eventually([this] { return instance_.reports("17") == std::vector<std::string>{"failed"}; }));
  EXPECT_EQ(states(), before);
  EXPECT_EQ(keys_.epoch(), epoch) << "the ledger is as it was";
  for (const char* call : {"C_DestroyObject", "C_WrapKey", "C_UnwrapKey", "C_GenerateKeyPair"})
    EXPECT_EQ(test::shim::count(call), 0u) << call;
  EXPECT_EQ(status().state(), "connected");
}

TEST_F(LinkTest, R10_OrderReachesAnAgentThatWasAwayWhenItComesBack) {
  connect();
  pump();
  instance_.go_away();
  ASSERT_TRUE(reaches("unreachable"));
  instance_.order_rekey("order-3", "transport");
  instance_.come_back();
  EXPECT_TRUE(eventually([this] {
    const auto steps = instance_.reports("order-3");
    return !steps.empty() && steps.back() == "draining";
  }));
}

TEST_F(LinkTest, T8_RekeyOfTheAuthKeyRenewsTheCertificateWithTheNewKey) {
  connect();
  pump();
  const auto old = status();
  const auto id = begin_rekey("identity");
  ASSERT_TRUE(eventually([&] { return step(id) == RekeyStep::kDraining; }));
  ASSERT_TRUE(reaches("connected"));
  EXPECT_NE(status().auth_kid(), old.auth_kid());
  EXPECT_NE(status().serial(), old.serial());
  EXPECT_EQ(status().auth_kid(), instance_.auth_kid("web1"));
  EXPECT_EQ(LinkStore(hsm_.folder() / "state").get()->certificates.size(), 1u);
}

TEST_F(LinkTest, T8_CertificateForAnotherKeyIsRefusedBeforeAnythingChanges) {
  connect();
  const auto old = status();
  instance_.mischief.other_key = true;
  const auto id = begin_rekey("identity");
  pump();
  EXPECT_TRUE(eventually([&] { return step(id) == RekeyStep::kAborted; })) << last_told();
  EXPECT_EQ(status().auth_kid(), old.auth_kid());
  EXPECT_EQ(status().serial(), old.serial());
  EXPECT_TRUE(told("link.confirmation", "another key"));
}

TEST_F(LinkTest, T8_CertificateAtTwoThirdsOfItsLifeIsRenewedAutomatically) {
  instance_.before = std::chrono::hours(24 * 45);
  instance_.after = std::chrono::hours(24 * 15);
  connect();
  instance_.before = std::chrono::hours(1);
  const std::string old = status().auth_kid();
  pump();
  ASSERT_TRUE(eventually([&] {
    const auto now = status();
    return now.state() == "connected" && now.auth_kid() != old;
  })) << status().DebugString();
  EXPECT_THAT(keys_.rekeys()[0].reason, HasSubstr("two thirds"));
  EXPECT_FALSE(told("link.certificate-ends", "it has ended"));
}

TEST_F(LinkTest, T8_RenewalThatTheInstanceCannotDoIsTriedOnAndWarnedOf) {
  instance_.before = std::chrono::hours(24 * 53);
  instance_.after = std::chrono::hours(24 * 6);
  instance_.mischief.no_renewal = true;
  connect();
  pump();
  EXPECT_TRUE(eventually([this] { return told("link.certificate-ends", "less than 7 d"); }));
  EXPECT_TRUE(eventually([this] { return told("rekey.waits", "the CA is away"); }));
  EXPECT_EQ(keys_.rekeys()[0].step, RekeyStep::kGenerated);
  instance_.mischief.no_renewal = false;
  EXPECT_TRUE(eventually([this] { return keys_.rekeys()[0].step == RekeyStep::kDraining; }));
}

TEST_F(LinkTest, KeysThatAreNotTheLinksAreNoneOfTheInstancesBusiness) {
  connect();
  create("backup", "transport", "ec-p256");
  instance_.go_away();
  const auto id = begin_rekey("backup");
  pump();
  EXPECT_TRUE(eventually([&] { return step(id) == RekeyStep::kDraining; })) << last_told();
}

}  // namespace
}  // namespace keyagent::link
