// SPDX-License-Identifier: Apache-2.0
// Strangers who flood a running instance, each from a different address, while agents enroll and
// users work (RELIABILITY 151, 152).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"
#include "tests/support/flooder.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class Flood {
 public:
  // Calls `one` until it ends, in a thread. `one` returns the status that refused it, 0 without
  // an answer, and 200 when it was granted.
  template <class One>
  void add(One one) {
    threads_.emplace_back([this, one]() mutable {
      while (!over_) {
        const int status = one();
        if (status != 200) ++refused;
        if (status != 200 && status != 0) ++answered;
        ++made;
      }
    });
  }
  ~Flood() { end(); }
  void end() {
    over_ = true;
    for (auto& each : threads_)
      if (each.joinable()) each.join();
  }
  std::atomic<int> made{0}, refused{0}, answered{0};

 private:
  std::atomic<bool> over_{false};
  std::vector<std::thread> threads_;
};

class InstanceFlood : public testing::Test {
 protected:
  void SetUp() override {
    instance_.extra = "times:\n  heartbeat: 1s\nlimits:\n  connections-per-address: 100\n";
    instance_.start();
    instance_.add_user("alice", "admin");
    ASSERT_EQ(instance_.log_in("alice").status, 0);
    api_ = std::stoi(instance_.api_url().substr(instance_.api_url().rfind(':') + 1));
  }
  // An agent with a token, and its link; a user's login and question.
  void serve(int number) {
    SimulatedAgent agent(instance_, "web" + std::to_string(number));
    const auto token = instance_.json("alice", "token").at("token");
    ASSERT_EQ(agent.enrol(token).at("state"), "trusted");
    const auto link = agent.connect();
    link->send(Json{{"type", "heartbeat"}, {"n", 1}, {"keys", Json::array()}}.dump());
    ASSERT_EQ(SimulatedAgent::receive(*link, "heartbeat").at("n"), 1);
    ASSERT_EQ(agent.call("GET", "/v1/credentials").at("credentials").size(), 0u);
    const auto entered = instance_.log_in("alice");
    ASSERT_EQ(entered.status, 0) << entered.output;
  }
  // Its unit gives it twice the memory of this flood, and of what its default limits allow: for
  // each agent a link of 37 KiB (scripts/bench --only-instance --agents 10000).
  void expect_room_in_the_unit() const {
    const auto unit = read_text(KEYAGENT_SOURCE "/agent/instance/systemd/keyinstanced.service");
    const auto at = unit.find("\nMemoryMax=");
    ASSERT_NE(at, unit.npos);
    ASSERT_EQ(unit.substr(unit.find_first_not_of("0123456789", at + 11), 2), "G\n");
    const auto limit = std::stoul(unit.substr(at + 11)) << 20U;
    const auto status = read_text("/proc/" + std::to_string(instance_.pid()) + "/status");
    const auto peak = std::stoul(status.substr(status.find("VmHWM:") + 6));
    constexpr std::size_t kLinks = 20000UL * 37;
    EXPECT_LE(peak + kLinks, limit) << "the peak was " << peak << " KiB";
    EXPECT_LE(2 * peak, limit) << "the peak was " << peak << " KiB";
  }
  // The status of one request of a new connection.
  int ask(const std::string& from, const std::string& path, const Json& body) const {
    Stranger one(from, api_);
    return one.handshake() ? one.post(path, body.dump()) : 0;
  }

  InstanceProcess instance_;
  int api_ = 0;
};

TEST_F(InstanceFlood, Fault151_Fault152_AgentsEnrollAndUsersLogInWhileStrangersFlood) {
  serve(0);
  const SimulatedAgent victim(instance_, "victim");
  const Json enrollment{{"agent", "victim"},
                        {"csr", victim.csr()},
                        {"transport",
                         {{"spki", to_base64url(victim.transport.spki)},
                          {"envelope", name_of(victim.transport.envelope)}}},
                        {"token", "bm90IGEgdG9rZW4"}};
  std::vector<Stranger> silent;
  for (const int port : {api_, instance_.agents_port()})
    for (int i = 0; i < 300; ++i) silent.emplace_back("127.0.0.2", port);
  Flood handshakes, enrollments, passwords, names, bodies;
  handshakes.add([this] { return Stranger("127.0.0.3", api_).handshake() ? 200 : 0; });
  handshakes.add(
      [this] { return Stranger("127.0.0.3", instance_.agents_port()).handshake() ? 200 : 0; });
  enrollments.add([&] { return ask("127.0.0.4", "/v1/enrolments", enrollment); });
  passwords.add([this] {
    return ask("127.0.0.5", "/v1/login", {{"user", "alice"}, {"password", "wrong horse"}});
  });
  names.add([this, n = 0]() mutable {
    const auto name = "made-up-" + std::to_string(++n);
    return ask("127.0.0.6", "/v1/login", {{"user", name}, {"password", "wrong horse"}});
  });
  // Nearly the largest that is read.
  Json large = enrollment;
  large["token"] = std::string(1000 << 10, 'x');
  for (int i = 0; i < 4; ++i) bodies.add([&] { return ask("127.0.0.7", "/v1/enrolments", large); });
  for (int number = 1; number <= 15; ++number) {
    serve(number);
    if (HasFatalFailure()) break;
  }
  // Each of them was at it.
  for (const auto* each : {&handshakes, &enrollments, &passwords, &names, &bodies})
    EXPECT_TRUE(wait_until([each] { return each->made > 100; }));
  // Some of them reach what they attack, or their limits were not tried.
  for (const auto* each : {&enrollments, &passwords, &names})
    EXPECT_TRUE(wait_until([each] { return each->answered > 10; }));
  for (Flood* each : {&handshakes, &enrollments, &passwords, &names, &bodies}) each->end();
  EXPECT_EQ(enrollments.refused, enrollments.made);
  EXPECT_EQ(passwords.refused, passwords.made);
  std::size_t open = 0;
  for (const auto& each : silent) open += each.ended() ? 0 : 1;
  EXPECT_LE(open, 200u) << "100 at each listener";
  EXPECT_THAT(read_text(instance_.log()), HasSubstr("its address has too many connections"));
  EXPECT_EQ(instance_.json("alice", "agents").at("agents").size(), 16u)
      << "no place of a stranger is left";
  expect_room_in_the_unit();
}

TEST_F(InstanceFlood, Fault152_AnAgentHasFewLinksWithoutHelloAndLosesThem) {
  SimulatedAgent agent(instance_, "web1");
  ASSERT_EQ(agent.enrol(instance_.json("alice", "token").at("token")).at("state"), "trusted");
  const auto greeted = agent.connect();
  const auto open = [&] {
    return std::make_unique<tls::LinkClient>(agent.library, agent.mutual(), "/v1/link");
  };
  std::vector<std::unique_ptr<tls::LinkClient>> silent;
  for (int i = 0; i < 4; ++i) silent.push_back(open());
  EXPECT_EQ(code_of(open), Code::kBusy);
  for (const auto& each : silent) EXPECT_NE(SimulatedAgent::end_of(*each), Code::kOk);
  EXPECT_TRUE(wait_until([&] { return code_of(open) == Code::kOk; }));
  // The link that said hello stays.
  greeted->send(Json{{"type", "heartbeat"}, {"n", 7}, {"keys", Json::array()}}.dump());
  EXPECT_EQ(SimulatedAgent::receive(*greeted, "heartbeat").at("n"), 7);
}

}  // namespace
}  // namespace keyagent::test
