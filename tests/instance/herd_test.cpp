// SPDX-License-Identifier: Apache-2.0
// All agents of an instance come back at once, and its database restarts meanwhile.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"
#include "tests/support/postgres.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;

// Many agents with keys in memory. Each dials again the moment that its link has ended: there is no
// jitter here, which only a real agent has.
class Herd {
 public:
  static constexpr int kAgents = 100, kEnrollers = 4;

  explicit Herd(InstanceProcess& instance) {
    for (int i = 0; i < kAgents; ++i)
      agents_.push_back(
          std::make_unique<SimulatedAgent>(instance, "herd-" + std::to_string(i), shared_));
    std::atomic<int> next{0};
    std::vector<std::thread> enrollers;
    for (int i = 0; i < kEnrollers; ++i) {
      enrollers.emplace_back([&] {
        for (int at = next++; at < kAgents; at = next++) {
          const std::string token = instance.json("alice", "token").at("token");
          EXPECT_EQ(agents_[static_cast<std::size_t>(at)]->enrol(token).at("state"), "trusted");
        }
      });
    }
    for (auto& each : enrollers) each.join();
  }
  ~Herd() {
    ended_ = true;
    for (auto& each : threads_) each.join();
  }
  void begin() {
    for (int i = 0; i < kAgents; ++i)
      threads_.emplace_back([this, at = static_cast<std::size_t>(i)] { run(at); });
  }
  int linked() const { return linked_; }  // now

 private:
  void run(std::size_t at) {
    while (!ended_) {
      try {
        const auto link = agents_[at]->connect();
        ++linked_;
        stay(*link);
        --linked_;
      } catch (const std::exception&) {
        std::this_thread::sleep_for(10ms);  // paces: it dials again
      }
    }
  }
  // Until it ends.
  void stay(tls::LinkClient& link) {
    try {
      for (int beat = 0; !ended_; ++beat) {
        if (beat % 4 == 0) link.send(Json{{"type", "heartbeat"}, {"n", beat}}.dump());
        link.receive(250ms);
      }
    } catch (const std::exception&) {
      // The instance has gone.
    }
  }

  SimulatedAgent::Shared shared_;
  std::vector<std::unique_ptr<SimulatedAgent>> agents_;
  std::vector<std::thread> threads_;
  std::atomic<bool> ended_{false};
  std::atomic<int> linked_{0};
};

std::size_t peak_kibibytes(pid_t pid) {
  const auto status = read_text("/proc/" + std::to_string(pid) + "/status");
  return std::stoul(status.substr(status.find("VmHWM:") + 6));
}

TEST(HerdTest, Fault135_Fault179_AllComeBackAtOnceAlsoWhenTheDatabaseRestartsMeanwhile) {
  if (const auto missing = Postgres::missing(); !missing.empty())
    GTEST_SKIP() << missing << " is not installed";
  auto& database = Postgres::shared();
  InstanceProcess instance;
  instance.store_url = database.new_database();
  instance.start();
  instance.add_user("alice", "admin");
  ASSERT_EQ(instance.log_in("alice").status, 0);
  Herd herd(instance);
  herd.begin();
  const auto all_linked = [&] { return herd.linked() == Herd::kAgents; };
  ASSERT_TRUE(wait_until(all_linked, 60s)) << herd.linked();
  const auto calm = peak_kibibytes(instance.pid());
  const auto shown_up = [&] {
    const Json now = instance.json("alice", "agents");
    int up = 0;
    for (const auto& each : now.at("agents")) up += each.at("shown") == "up" ? 1 : 0;
    return up;
  };

  instance.end(SIGKILL);
  ASSERT_TRUE(wait_until([&] { return herd.linked() == 0; }, 60s));
  instance.start();
  EXPECT_TRUE(wait_until(all_linked, 60s)) << herd.linked() << " of all came back";

  instance.end(SIGKILL);
  database.kill();
  ASSERT_TRUE(wait_until([&] { return herd.linked() == 0; }, 60s));
  database.restart();
  instance.start();
  database.restart();  // under those that come back
  EXPECT_TRUE(wait_until([&] { return all_linked() && shown_up() == Herd::kAgents; }, 60s))
      << herd.linked() << " of all came back, " << shown_up() << " are shown";
  EXPECT_LE(peak_kibibytes(instance.pid()), calm + 256 * 1024) << "calm: " << calm << " KiB";
}

}  // namespace
}  // namespace keyagent::test
