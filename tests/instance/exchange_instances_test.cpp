// Two real instances, each on its host's token, and their people's commands.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/instance/instance_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class ExchangeInstances : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    for (auto* each : {&source_, &target_}) {
      *each = new InstanceProcess;
      (*each)->start();
      (*each)->add_user("crypto", "cryptographic-manager");
      (*each)->add_user("ops", "operator");
      ASSERT_EQ((*each)->log_in("crypto").status, 0);
      ASSERT_EQ((*each)->log_in("ops").status, 0);
    }
  }
  static void TearDownTestSuite() {
    delete source_;
    delete target_;
  }

  static std::string identity(const InstanceProcess& instance) {
    return instance.json("crypto", "exchange identity").at("identity");
  }
  static CommandResult add(const InstanceProcess& to, const std::string& name,
                           const InstanceProcess& peer, const std::string& identity) {
    return to.keyagent("crypto", "peer add " + name + " --identity=" + identity + " --url " +
                                     peer.api_url() + " --ca=" + peer.fingerprint);
  }
  static Json check(const std::string& peer) {
    const auto result = target_->keyagent("crypto", "--json exchange check " + peer);
    const Json answer = Json::parse(result.output, nullptr, false);
    EXPECT_TRUE(answer.is_object()) << result.output << read_text(target_->log());
    return answer;
  }

  static inline InstanceProcess *source_ = nullptr, *target_ = nullptr;
};

TEST_F(ExchangeInstances, X3_APeerIsItsPinnedKeyAndTheHostIsOnlyTheWay) {
  const auto source = identity(*source_), target = identity(*target_);
  EXPECT_EQ(identity(*source_), source);  // made once
  ASSERT_NE(source, target);
  ASSERT_EQ(add(*target_, "source", *source_, source).status, 0);
  // Not yet a peer there: nobody signed the refusal, it is a fault of the way.
  EXPECT_EQ(check("source").at("checks").at(2).at("code"), "PEER");
  ASSERT_EQ(add(*source_, "target", *target_, target).status, 0);
  const Json reached = check("source").at("checks").at(2);
  EXPECT_EQ(reached.at("passed"), true) << reached.dump() << read_text(source_->log());
  EXPECT_EQ(reached.at("text"), source);
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

TEST_F(ExchangeInstances, X3_TheWayIsJudgedByThePinnedAuthorityToo) {
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

}  // namespace
}  // namespace keyagent::test
