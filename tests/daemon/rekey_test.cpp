// SPDX-License-Identifier: Apache-2.0
// Rekey of a real agent under load, through restarts and with a hook.

#include <gmock/gmock.h>

#include <atomic>
#include <numeric>
#include <random>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr const char* kShortDrain =
    "rekey:\n  max-generations: 200\n  keys:\n    credentials: {drain: 10s}\n    releases: "
    "{drain: 10s}\n";

wire::Key show(client::Client& agent, const std::string& key) {
  wire::Request request;
  request.mutable_key_show()->set_key(key);
  return agent.call(request).key_show().key();
}

PublicKeyInfo info_of(const wire::Key& key) {
  return {Kid(key.kid()),
          key.name(),
          *key_algorithm_of(key.algorithm()),
          *purpose_of(key.purpose()),
          *envelope_algorithm_of(key.envelope()),
          Bytes(key.spki().begin(), key.spki().end())};
}

std::string seal(const wire::Key& key, const std::string& text) {
  const auto sealed = envelope::seal_jwe(info_of(key), envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(text.begin(), text.end()));
  return {sealed.begin(), sealed.end()};
}

std::string open(client::Client& agent, const std::string& envelope) {
  wire::Request request;
  request.mutable_open()->set_envelope(envelope);
  return agent.call(request).open().plaintext();
}

wire::Rekey begin(client::Client& agent, const std::string& name) {
  wire::Request request;
  request.mutable_rekey()->set_name(name);
  return agent.call(request).rekey().rekey();
}

wire::Rekey look(client::Client& agent, std::uint64_t id) {
  wire::Request request;
  request.mutable_rekey_status()->set_all(true);
  const auto answer = agent.call(request);
  for (const auto& rekey : answer.rekey_status().rekeys()) {
    if (rekey.id() == id) return rekey;
  }
  return {};
}

bool settles(client::Client& agent, std::uint64_t id) {
  return wait_until([&] {
    const auto step = look(agent, id).step();
    return step == "draining" || step == "destroyed" || step == "aborted";
  });
}

// Opens and signs as fast as it is asked to, and counts what goes wrong.
class Load {
 public:
  Load(const AgentProcess& agent, std::chrono::milliseconds pause)
      : agent_(agent), pause_(pause), thread_([this] { run(); }) {}
  ~Load() { end(); }
  void end() {
    ended_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::atomic<int> done{0}, wrong{0};
  std::string first_fault;

 private:
  void run() {
    auto agent = agent_.client();
    while (!ended_) {
      try {
        once(agent);
      } catch (const std::exception& error) {
        if (wrong++ == 0) first_fault = error.what();
      }
      std::this_thread::sleep_for(pause_);
    }
  }
  void once(client::Client& agent) {
    const std::string text = to_hex(random_bytes(8));
    const std::string envelope = seal(show(agent, "credentials"), text);
    if (open(agent, envelope) != text) ++wrong;
    auto request = AgentProcess::sign_request("releases");
    const Bytes digest = random_bytes(32);
    request.mutable_sign()->set_input(digest.data(), digest.size());
    const auto answer = agent.call(request).sign();
    const auto key = show(agent, answer.kid());
    if (!envelope::verify_signature(as_bytes(key.spki()), SignatureAlgorithm::kEs256, digest,
                                    as_bytes(answer.signature())))
      ++wrong;
    done += 2;
  }
  const AgentProcess& agent_;
  const std::chrono::milliseconds pause_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

TEST(DaemonRekey, R6_AHundredRekeysUnderLoadFailNothing) {
  AgentProcess agent;
  agent.extra = kShortDrain;
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  agent.create("credentials", "transport", "ec-p256");
  agent.create("releases", "sign", "ec-p256");
  std::vector<std::unique_ptr<Load>> loads;
  for (int i = 0; i < 4; ++i) loads.push_back(std::make_unique<Load>(agent, 20ms));
  auto connection = agent.client();
  const auto done_by_all = [&] {
    return std::accumulate(loads.begin(), loads.end(), 0,
                           [](int sum, const auto& load) { return sum + load->done; });
  };
  for (int i = 0; i < 100; ++i) {
    const int before = done_by_all();
    const auto rekey = begin(connection, i % 2 == 0 ? "credentials" : "releases");
    ASSERT_TRUE(settles(connection, rekey.id())) << look(connection, rekey.id()).ShortDebugString();
    ASSERT_NE(look(connection, rekey.id()).step(), "aborted")
        << look(connection, rekey.id()).reason() << agent.story();
    // However fast the machine is: keys are used from each rekey to the next.
    ASSERT_TRUE(wait_until([&] { return done_by_all() >= before + 4; }));
  }
  EXPECT_GE(done_by_all(), 400);
  for (auto& load : loads) {
    load->end();
    EXPECT_EQ(load->wrong, 0) << load->first_fault;
  }
  EXPECT_EQ(show(connection, "credentials").generation(), 51u);
  wire::Request verify;
  verify.mutable_audit_verify();
  EXPECT_TRUE(connection.call(verify).audit_verify().ok());
}

TEST(DaemonRekey, R8_KilledAtRandomMomentsItEndsWithAnOldOrNewKeyAndLosesNoEnvelope) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  AgentProcess agent;
  // Each round can leave one more generation that drains; all of them are opened again.
  agent.extra = "rekey:\n  max-generations: 200\n";
  agent.start();
  agent.create("credentials", "transport", "ec-p256");
  std::vector<std::pair<std::string, std::string>> sealed;
  for (int round = 0; round < 12; ++round) {
    auto connection = agent.client();
    const std::string text = "secret " + std::to_string(round);
    sealed.emplace_back(seal(show(connection, "credentials"), text), text);
    begin(connection, "credentials");
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 40000));
    agent.kill();
    agent.start();
    ASSERT_TRUE(agent.serving()) << agent.story();
    auto again = agent.client();
    ASSERT_EQ(show(again, "credentials").state(), "active");
    for (const auto& [envelope, plain] : sealed) ASSERT_EQ(open(again, envelope), plain);
    wire::Request status;
    status.mutable_rekey_status();
    ASSERT_TRUE(wait_until([&] {
      const auto answer = again.call(status);
      for (const auto& rekey : answer.rekey_status().rekeys())
        if (rekey.step() != "draining") return false;
      return true;
    }));
  }
}

TEST(DaemonRekey, TheHookSeesTheNewPublicKeyAndItsRefusalKeepsTheOldOne) {
  AgentProcess agent;
  const auto hook = agent.folder() / "hook";
  agent.extra = "rekey:\n  hook: " + hook.string() + "\n";
  agent.write("hook",
              "#!/bin/sh\nread -r line\necho \"$line\" >> " +
                  (agent.folder() / "hook.out").string() + "\nexit 0\n",
              0755);
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  const auto old = agent.create("releases", "sign", "ec-p256");
  auto connection = agent.client();
  const auto first = begin(connection, "releases");
  ASSERT_TRUE(settles(connection, first.id()));
  const auto seen = read_text(agent.folder() / "hook.out");
  EXPECT_THAT(seen, HasSubstr("\"phase\":\"prove\""));
  EXPECT_THAT(seen, HasSubstr("\"phase\":\"switched\""));
  EXPECT_THAT(seen, HasSubstr(show(connection, "releases").kid()));
  EXPECT_THAT(seen, HasSubstr("\"kty\":\"EC\""));
  const auto before = show(connection, "releases").kid();
  agent.write("hook", "#!/bin/sh\necho unknown key >&2\nexit 1\n", 0755);
  run_command("chown " + std::to_string(::geteuid() == 0 ? AgentProcess::kUser : ::geteuid()) +
              " " + hook.string());
  const auto second = begin(connection, "releases");
  ASSERT_TRUE(settles(connection, second.id()));
  EXPECT_EQ(look(connection, second.id()).step(), "aborted");
  EXPECT_THAT(look(connection, second.id()).reason(), HasSubstr("unknown key"));
  EXPECT_EQ(show(connection, "releases").kid(), before);
}

TEST(DaemonRekey, CheckpointsAreSignedByTheNewAuditKeyAndTheOldOnesStillVerify) {
  AgentProcess agent;
  agent.start();
  auto connection = agent.client();
  wire::Request verify;
  verify.mutable_audit_verify();
  EXPECT_TRUE(connection.call(verify).audit_verify().ok());
  const auto rekey = begin(connection, "audit");
  ASSERT_TRUE(settles(connection, rekey.id()));
  const auto fresh = look(connection, rekey.id()).new_kid();
  EXPECT_TRUE(wait_until([&] {
    return connection.call(verify).audit_verify().checkpoint().find(fresh) != std::string::npos;
  }));
  const auto reply = connection.call(verify).audit_verify();
  EXPECT_TRUE(reply.ok()) << reply.text();
  EXPECT_EQ(reply.checkpoints(), reply.checkpoints_verified());
}

}  // namespace
}  // namespace keyagent::test
