// SPDX-License-Identifier: Apache-2.0
// Two replicas, and agents at both: any of them serves any agent.

#include "tests/instance/replicas.h"

#include <atomic>

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class ReplicasTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (Postgres::missing().empty()) replicas_ = new Replicas;
  }
  static void TearDownTestSuite() { delete replicas_; }
  void SetUp() override {
    if (replicas_ == nullptr) GTEST_SKIP() << Postgres::missing() << " is not installed";
  }
  static InstanceProcess& a() { return replicas_->a; }
  static InstanceProcess& b() { return replicas_->b; }
  // In the group `id`, so that other tests' orders do not reach it.
  static std::unique_ptr<SimulatedAgent> member(const std::string& group, int number) {
    const auto id = group + "-" + std::to_string(number);
    auto agent = Replicas::trusted(number % 2 == 0 ? a() : b(), id);
    EXPECT_EQ(a().keyagent("ops", "groups " + id + " " + group).status, 0);
    return agent;
  }
  static void report(tls::LinkClient& link, const Json& order, const std::string& step,
                     const std::string& kid) {
    link.send(
        Json{{"type", "rekey"}, {"id", order.at("id")}, {"step", step}, {"new_kid", kid}}.dump());
  }

  static inline Replicas* replicas_ = nullptr;
};

TEST_F(ReplicasTest, TwoThatStartTogetherAreOneInstanceWithOneAuthority) {
  EXPECT_EQ(a().fingerprint, b().fingerprint);
  EXPECT_EQ(replicas_->server.query(replicas_->database,
                                    "SELECT count(*) FROM settings WHERE name = 'ca-certificate'"),
            "1\n");
  EXPECT_NE(a().json("root", "status").at("replica"), b().json("root", "status").at("replica"));
}

TEST_F(ReplicasTest, Fault160_AChangeOfAUserEndsTheSessionsAtTheOtherReplicaToo) {
  a().add_user("shift", "auditor");
  std::filesystem::copy(a().work.path() / "shift.pw", b().work.path());
  const auto in = [&](InstanceProcess& replica) {
    return replica.keyagent("shift", "status").status == 0;
  };
  for (const std::string change : {"--role operator", "--disable", "--enable"}) {
    const bool disabled = change == "--enable";
    if (!disabled) {
      ASSERT_EQ(a().log_in("shift").status, 0);
      ASSERT_EQ(b().log_in("shift").status, 0);
      ASSERT_TRUE(in(a()) && in(b()));
    }
    const auto changed = a().keyagent("root", "users shift " + change);
    ASSERT_EQ(changed.status, 0) << changed.output;
    EXPECT_FALSE(in(a())) << change;
    EXPECT_FALSE(in(b())) << change;
  }
  // Its role again, by the other replica: that does not enable it.
  ASSERT_EQ(b().keyagent("root", "users shift --disable").status, 0);
  ASSERT_EQ(b().keyagent("root", "users shift --role auditor").status, 0);
  EXPECT_NE(a().log_in("shift").status, 0);
  ASSERT_EQ(b().keyagent("root", "users shift --enable").status, 0);
  ASSERT_EQ(a().log_in("shift").status, 0);
  ASSERT_EQ(b().log_in("shift").status, 0);
  ASSERT_EQ(b().keyagent("root", "logout --user shift").status, 0);
  EXPECT_FALSE(in(a()));
  ASSERT_EQ(a().log_in("shift").status, 0);
  ASSERT_EQ(b().log_in("shift").status, 0);
  ASSERT_EQ(a().keyagent("shift", "logout --all").status, 0);
  EXPECT_FALSE(in(b()));
}

TEST_F(ReplicasTest, AnEnrollmentAndARotationContinueAtTheOther) {
  SimulatedAgent agent(a(), "wanders");
  const auto fingerprint = agent.enrol().at("fingerprint").get<std::string>();
  ASSERT_EQ(b().keyagent("crypto", "approve wanders --fingerprint=" + fingerprint).status, 0);
  agent.use(b());
  const Json trusted = agent.poll();
  EXPECT_EQ(trusted.at("state"), "trusted");
  EXPECT_EQ(trusted.at("agents_url"),
            "https://127.0.0.1:" + std::to_string(replicas_->proxy.port()));
  // Each step of it is another connection, and so at another replica.
  agent.address = trusted.at("agents_url");
  agent.rotate();
  EXPECT_EQ(Replicas::agent(a(), "wanders").at("transport_kid"), agent.transport.kid.text());
}

TEST_F(ReplicasTest, T9_OfTwoLinksOfOneAgentAtTwoReplicasTheNewerLives) {
  const auto agent = Replicas::trusted(a(), "twice");
  auto first = agent->connect();
  const auto at_a = Replicas::agent(b(), "twice").at("tls").at("replica");
  agent->use(b());
  auto second = agent->connect();
  EXPECT_THAT(end_of(*first), HasSubstr("replaced"));
  second->send(Json{{"type", "heartbeat"}, {"n", 1}}.dump());
  EXPECT_EQ(SimulatedAgent::receive(*second, "heartbeat").at("n"), 1);
  EXPECT_EQ(Replicas::agent(a(), "twice").at("shown"), "up");
  EXPECT_NE(Replicas::agent(a(), "twice").at("tls").at("replica"), at_a);
  agent->use(a());
  auto third = agent->connect();
  EXPECT_THAT(end_of(*second), HasSubstr("replaced"));
  third->close("enough");
  EXPECT_TRUE(wait_until([&] { return Replicas::agent(b(), "twice").at("shown") == "down"; }));
}

TEST_F(ReplicasTest, T9_ARevocationAtOneEndsTheLinkAtTheOtherAndRefusesItsCertificate) {
  const auto agent = Replicas::trusted(a(), "stolen");
  agent->use(b());
  auto link = agent->connect();
  ASSERT_EQ(a().keyagent("crypto", "revoke stolen --reason lost").status, 0);
  EXPECT_THAT(end_of(*link), HasSubstr("revoked"));
  // Also by B's list of revoked certificates, before anything is looked up.
  EXPECT_TRUE(wait_until([&] {
    return code_of([&] { agent->call("GET", "/v1/credentials"); }) == Code::kRefusedByPeer;
  }));
}

TEST_F(ReplicasTest, ANoticeThatIsLostCostsSecondsAndNotTheWork) {
  const auto agent = Replicas::trusted(a(), "unheard");
  auto link = agent->connect();
  // As another replica would, but silently.
  replicas_->server.query(replicas_->database,
                          "UPDATE agents SET state = 'suspended' WHERE id = 'unheard'");
  EXPECT_THAT(end_of(*link), HasSubstr("suspended"));
}

TEST_F(ReplicasTest, ACredentialThatIsChangedAtOneIsAnnouncedToTheAgentAtTheOther) {
  const auto agent = Replicas::trusted(a(), "reader");
  agent->use(b());
  auto link = agent->connect();
  Replicas::put(a(), "shared", "first", "--agent reader");
  EXPECT_EQ(SimulatedAgent::receive(*link, "credentials").at("names"), Json::array({"shared"}));
  EXPECT_EQ(agent->fetch("shared").at("token"), "first");
}

TEST_F(ReplicasTest, R10_OrdersGivenAtOneReachTheAgentsOfTheOtherWithinTheLimit) {
  constexpr int kAgents = 6;
  std::vector<std::unique_ptr<SimulatedAgent>> agents;
  for (int i = 0; i < kAgents; ++i) agents.push_back(member("limited", i));
  std::vector<std::unique_ptr<tls::LinkClient>> links;
  for (auto& each : agents) links.push_back(each->connect());
  const auto batch = a().json("crypto", "rekey --group limited --canary 0 --parallel 2")
                         .at("batch")
                         .get<std::string>();
  std::atomic<int> under_way = 0, most = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kAgents; ++i) {
    threads.emplace_back([&, i] {
      auto& agent = *agents[static_cast<std::size_t>(i)];
      auto& link = *links[static_cast<std::size_t>(i)];
      const Json order = SimulatedAgent::receive(link, "rekey");
      most = std::max<int>(most, ++under_way);
      agent.rotate();
      --under_way;
      report(link, order, "switched", agent.transport.kid.text());
    });
  }
  for (auto& each : threads) each.join();
  EXPECT_TRUE(wait_until([&] { return Replicas::states(b(), batch)["confirmed"] == kAgents; }));
  EXPECT_LE(most, 2);
}

TEST_F(ReplicasTest, AFailureOfACanaryAtOneHaltsTheOther) {
  std::vector<std::unique_ptr<SimulatedAgent>> agents;
  std::vector<std::unique_ptr<tls::LinkClient>> links;
  for (int i = 0; i < 4; ++i) {
    agents.push_back(member("birds", i));
    links.push_back(agents.back()->connect());
  }
  const auto batch =
      b().json("crypto", "rekey --group birds --canary 25").at("batch").get<std::string>();
  const Json order = SimulatedAgent::receive(*links[0], "rekey");
  report(*links[0], order, "failed", "");
  EXPECT_TRUE(wait_until([&] { return Replicas::states(b(), batch)["cancelled"] == 3; }));
  EXPECT_EQ(Replicas::states(a(), batch)["failed"], 1);
}

// Each replica counts separately: an address that used up its attempts at one may still try at the
// other, and no name is locked.
TEST_F(ReplicasTest, Fault151_WrongPasswordsPauseAnAddressAtTheReplicaThatItAsked) {
  SimulatedAgent anyone(a(), "anyone");
  const auto attempt = [&](InstanceProcess& replica) {
    anyone.use(replica);
    return code_of([&] {
      anyone.api("POST", "/v1/login", {{"user", "guessed"}, {"password", "wrong password"}});
    });
  };
  for (auto* replica : {&a(), &b()}) {
    EXPECT_EQ(attempt(*replica), Code::kDenied);
    EXPECT_TRUE(wait_until([&] { return attempt(*replica) == Code::kBusy; }));
  }
}

TEST_F(ReplicasTest, AHostWithOtherKeysDoesNotStartAsAReplicaAndMakesNoKeys) {
  InstanceProcess stranger;
  stranger.store_url = replicas_->database;
  stranger.write_config();
  const auto checked = stranger.keyinstanced("check");
  EXPECT_EQ(checked.status, 6) << checked.output;
  EXPECT_THAT(checked.output, HasSubstr("instance-ca"));
  try {
    stranger.start();
    ADD_FAILURE() << "was started";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("does not have it"));
  }
  wire::Request request;
  request.mutable_key_list();
  auto connection = stranger.agent.client();
  const auto response = connection.call(request);
  for (const auto& each : response.key_list().keys())
    EXPECT_THAT(each.name(), Not(StartsWith("instance-")));
  b().write_config();
  EXPECT_EQ(b().keyinstanced("check").status, 0) << b().keyinstanced("check").output;
}

}  // namespace
}  // namespace keyagent::test
