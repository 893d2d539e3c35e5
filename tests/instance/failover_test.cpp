// SPDX-License-Identifier: Apache-2.0
// A replica is killed, or the database, while both are at work.

#include <atomic>
#include <mutex>

#include "tests/e2e/host.h"
#include "tests/instance/replicas.h"
#include "tests/support/free_port.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// An agent that stays connected through the one address, reads a credential all the time, and does
// what it is ordered.
class BusyAgent {
 public:
  BusyAgent(Replicas& replicas, const std::string& id) : agent_(replicas.a, id) {
    const std::string token = replicas.a.json("crypto", "token").at("token");
    agent_.address = agent_.enrol(token).at("agents_url");
    // While a replica or the database is being ended; then it is an error.
    agent_.tries = 300;
  }
  ~BusyAgent() { end(); }

  void begin() {
    thread_ = std::thread([this] { run(); });
  }
  void end() {
    ended_ = true;
    if (thread_.joinable()) thread_.join();
  }
  int reads() const { return reads_; }
  int links() const { return links_; }
  std::string fault() {
    const std::lock_guard lock(mutex_);
    return fault_;
  }

 private:
  void run() {
    while (!ended_) {
      try {
        const auto link = agent_.connect();
        ++links_;
        serve(*link);
      } catch (const Error& error) {
        // What cannot be reached is tried again; a refusal is what must not be.
        if (!retryable(error.code()) && error.code() != Code::kRefusedByPeer) {
          const std::lock_guard lock(mutex_);
          fault_ += std::string(error.what()) + "\n";
        }
        std::this_thread::sleep_for(50ms);  // paces: it dials again
      } catch (const std::exception&) {
        std::this_thread::sleep_for(50ms);  // paces: no welcome
      }
    }
  }
  void serve(tls::LinkClient& link) {
    for (int beats = 0; !ended_; ++beats) {
      if (beats % 5 == 0) link.send(Json{{"type", "heartbeat"}, {"n", beats}}.dump());
      if (agent_.fetch("shared").at("token") != "s3cr3t")
        throw Error(Code::kIntegrity, "another value");
      ++reads_;
      const auto text = link.receive(20ms);
      if (!text) continue;
      const Json message = Json::parse(*text);
      if (message.at("type") == "rekey") obey(link, message);
    }
  }
  void obey(tls::LinkClient& link, const Json& order) {
    const auto id = order.at("id").get<std::string>();
    if (done_ != id) agent_.rotate();
    done_ = id;
    link.send(Json{{"type", "rekey"},
                   {"id", id},
                   {"step", "switched"},
                   {"new_kid", agent_.transport.kid.text()}}
                  .dump());
  }

  SimulatedAgent agent_;
  std::string done_;  // the last order
  std::atomic<bool> ended_ = false;
  std::atomic<int> reads_ = 0, links_ = 0;
  std::mutex mutex_;
  std::string fault_;  // guarded by mutex_
  std::thread thread_;
};

// As README.md has it.
class Nginx {
 public:
  static constexpr const char* kProgram = "/usr/sbin/nginx";
  static constexpr const char* kModule = "/usr/lib/nginx/modules/ngx_stream_module.so";
  static bool is_there() {
    return std::filesystem::exists(kProgram) && std::filesystem::exists(kModule);
  }

  explicit Nginx(const std::vector<int>& servers) {
    const auto at = [&](const char* name) { return (folder_.path() / name).string(); };
    std::ofstream conf(at("conf"));
    conf << "load_module " << kModule << ";\ndaemon off;\nmaster_process off;\npid " << at("pid")
         << ";\nerror_log stderr;\nevents {}\nstream {\n  upstream agents {";
    for (const int port : servers) conf << " server 127.0.0.1:" << port << ";";
    conf << " }\n  server { listen 127.0.0.1:" << port_
         << "; proxy_pass agents; proxy_connect_timeout 2s; }\n}\n";
    conf.close();
    pid_ = ::fork();
    if (pid_ == 0) {
      const int out = ::open(at("log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::dup2(out, 2);
      ::execl(kProgram, "nginx", "-p", folder_.path().c_str(), "-c", at("conf").c_str(), nullptr);
      ::_exit(127);
    }
    const auto taken = [&] {
      return try_command("curl -sk -m 5 -o /dev/null https://127.0.0.1:" + std::to_string(port_))
                 .status != 7;  // refused
    };
    if (!wait_until(taken)) throw std::runtime_error("nginx:\n" + read_text(at("log")));
  }
  Nginx(const Nginx&) = delete;
  ~Nginx() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }

 private:
  TempFolder folder_;
  const int port_ = free_port();
  pid_t pid_ = 0;
};

class FailoverTest : public testing::Test {
 protected:
  static constexpr int kAgents = 6;

  void SetUp() override {
    if (const auto missing = Postgres::missing(); !missing.empty())
      GTEST_SKIP() << missing << " is not installed";
    replicas_ = std::make_unique<Replicas>();
  }
  void start_agents() {
    std::string words;
    for (int i = 0; i < kAgents; ++i) {
      const auto id = "busy-" + std::to_string(i);
      agents_.push_back(std::make_unique<BusyAgent>(*replicas_, id));
      words += " --agent " + id;
    }
    Replicas::put(replicas_->a, "shared", "s3cr3t", words);
    for (auto& each : agents_) each->begin();
    wait_all([](const BusyAgent& each) { return each.reads() > 2; });
  }
  void wait_all(const std::function<bool(const BusyAgent&)>& condition) {
    EXPECT_TRUE(wait_until(
        [&] {
          return std::all_of(agents_.begin(), agents_.end(),
                             [&](const auto& each) { return condition(*each); });
        },
        60s));
  }
  std::string order_all(InstanceProcess& replica) {
    return replica.json("crypto", "rekey --all --canary 20 --parallel 2").at("batch");
  }
  // Everyone reads again, at `left`, and every order has been done.
  void expect_all_served(InstanceProcess& left, const std::string& batch) {
    EXPECT_TRUE(
        wait_until([&] { return Replicas::states(left, batch)["confirmed"] == kAgents; }, 90s))
        << left.keyagent("root", "rekeys " + batch).output << story();
    std::map<const BusyAgent*, int> before;
    for (const auto& each : agents_) before[each.get()] = each->reads();
    wait_all([&](const BusyAgent& each) { return each.reads() > before[&each] + 2; });
    for (int i = 0; i < kAgents; ++i) {
      EXPECT_TRUE(wait_until([&] {
        return Replicas::agent(left, "busy-" + std::to_string(i)).at("shown") == "up";
      })) << i
          << Replicas::agent(left, "busy-" + std::to_string(i)).dump()
          << ", links of it: " << agents_[i]->links() << story();
    }
    for (auto& each : agents_) {
      each->end();
      EXPECT_EQ(each->fault(), "");
    }
  }

  std::string story() const {
    return "\na:\n" + read_text(replicas_->a.log()) + "\nb:\n" + read_text(replicas_->b.log());
  }

  std::unique_ptr<Replicas> replicas_;
  std::vector<std::unique_ptr<BusyAgent>> agents_;
};

TEST_F(FailoverTest, AReplicaThatIsKilledUnderLoadLosesNoOrderAndNoRead) {
  start_agents();
  auto& a = replicas_->a;
  auto& b = replicas_->b;
  const auto at = [&](int i) {
    return Replicas::agent(b, "busy-" + std::to_string(i)).at("tls").at("replica");
  };
  std::set<std::string> used;
  for (int i = 0; i < kAgents; ++i) used.insert(at(i));
  EXPECT_EQ(used.size(), 2u);  // both are at work
  const auto batch = order_all(a);
  ASSERT_TRUE(wait_until([&] { return Replicas::states(b, batch)["confirmed"] > 0; }));
  a.end(SIGKILL);
  expect_all_served(b, batch);
}

TEST_F(FailoverTest, AgentsOfAKilledReplicaAreShownDownByTheOther) {
  const auto agent = Replicas::trusted(replicas_->a, "orphan");
  auto link = agent->connect();
  replicas_->a.end(SIGKILL);
  EXPECT_TRUE(
      wait_until([&] { return Replicas::agent(replicas_->b, "orphan").at("shown") == "down"; }));
}

TEST_F(FailoverTest, AnOrderThatAKilledReplicaHadClaimedIsSentByTheOther) {
  const auto agent = Replicas::trusted(replicas_->a, "orphan");
  auto link = agent->connect();
  const auto batch = replicas_->b.json("crypto", "rekey orphan").at("batch").get<std::string>();
  const Json order = SimulatedAgent::receive(*link, "rekey");
  replicas_->a.end(SIGKILL);
  agent->use(replicas_->b);
  link = agent->connect();
  EXPECT_EQ(SimulatedAgent::receive(*link, "rekey"), order);
}

TEST_F(FailoverTest, ADatabaseThatIsKilledUnderLoadIsUsedAgainByBoth) {
  start_agents();
  const auto batch = order_all(replicas_->a);
  ASSERT_TRUE(wait_until([&] { return Replicas::states(replicas_->b, batch)["confirmed"] > 0; }));
  replicas_->server.restart();
  expect_all_served(replicas_->b, batch);
  // Wake-ups too: a link at one ends when its agent is suspended at the other.
  const auto agent = Replicas::trusted(replicas_->a, "after");
  auto link = agent->connect();
  ASSERT_EQ(replicas_->b.keyagent("crypto", "suspend after --reason test").status, 0);
  EXPECT_THAT(end_of(*link), HasSubstr("suspended"));
}

// The agent says it once on a link: a store that is away at that moment must not make it unsaid.
TEST_F(FailoverTest, R2_AReportThatTheStoreDidNotTakeIsAskedForAgain) {
  const auto agent = Replicas::trusted(replicas_->a, "reporter");
  auto link = agent->connect();
  const auto batch = replicas_->a.json("crypto", "rekey reporter").at("batch").get<std::string>();
  const Json order = SimulatedAgent::receive(*link, "rekey");
  agent->rotate();
  const auto report = [&] {
    link->send(Json{{"type", "rekey"},
                    {"id", order.at("id")},
                    {"step", "switched"},
                    {"new_kid", agent->transport.kid.text()}}
                   .dump());
  };
  replicas_->server.kill();
  report();
  EXPECT_THAT(end_of(*link), HasSubstr("PostgreSQL"));
  replicas_->server.restart();
  link = agent->connect();
  EXPECT_EQ(SimulatedAgent::receive(*link, "rekey"), order);
  report();
  EXPECT_TRUE(wait_until([&] { return Replicas::states(replicas_->a, batch)["confirmed"] == 1; }));
}

TEST_F(FailoverTest, NginxInFrontOfBothPassesLinksToTheOneThatIsLeft) {
  if (!Nginx::is_there()) GTEST_SKIP() << "nginx or its stream module is not installed";
  const Nginx nginx({replicas_->a.agents_port(), replicas_->b.agents_port()});
  const auto agent = Replicas::trusted(replicas_->a, "proxied");
  agent->address = nginx.url();
  const auto where = [&] {
    return Replicas::agent(replicas_->b, "proxied").at("tls").at("replica").get<std::string>();
  };
  auto link = agent->connect();
  const auto first = where();
  auto next = agent->connect();
  EXPECT_THAT(end_of(*link), HasSubstr("replaced"));
  EXPECT_NE(where(), first);
  replicas_->a.end(SIGKILL);
  for (int i = 0; i < 4; ++i) {
    link = agent->connect();
    EXPECT_EQ(replicas_->b.json("root", "status").at("replica"), where());
    agent->call("GET", "/v1/credentials");
  }
}

// The real agent knows one URL, which is the address in front.
TEST_F(FailoverTest, ARealAgentIsServedByTheReplicaThatIsLeft) {
  Host host;
  host.start();
  host.json("key create credentials --purpose transport --algorithm ec-p256");
  auto& a = replicas_->a;
  auto& b = replicas_->b;
  ASSERT_EQ(a.keyagent("crypto", "token -o " + host.file("token").string()).status, 0);
  const auto enrolled =
      host.keyagent("enroll " + a.api_url() + " --token-file token --wait --timeout 60");
  ASSERT_EQ(enrolled.status, 0) << enrolled.output << host.story();
  Replicas::put(b, "shared", "s3cr3t", "--agent test");
  EXPECT_THAT(host.keyagent("credential get shared").output, HasSubstr("s3cr3t"));
  const auto replica = Replicas::agent(a, "test").at("tls").at("replica");
  const bool first = replica == a.json("root", "status").at("replica");
  auto& gone = first ? a : b;
  auto& left = first ? b : a;
  gone.end(SIGKILL);
  EXPECT_THAT(host.keyagent("credential get shared").output, HasSubstr("s3cr3t"));
  EXPECT_TRUE(wait_until(
      [&] {
        const Json now = Replicas::agent(left, "test");
        return now.at("shown") == "up" && now.at("tls").at("replica") != replica;
      },
      60s));
  const auto rekey = left.keyagent("crypto", "rekey test --wait --timeout 100");
  EXPECT_EQ(rekey.status, 0) << rekey.output << host.story();
  EXPECT_THAT(host.keyagent("credential get shared").output, HasSubstr("s3cr3t"));
}

}  // namespace
}  // namespace keyagent::test
