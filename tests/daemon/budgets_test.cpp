// SPDX-License-Identifier: Apache-2.0
// A real agent under the floods of one local user, while another one works.

#include <gmock/gmock.h>

#include <atomic>

#include "agent/base/error.h"
#include "agent/wire/frame.h"
#include "agent/wire/messages.h"
#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr uid_t kFlooder = 61191;

// A process of another user that sends frames without end over its own connections, until the
// object is destroyed.
class Flood {
 public:
  // `connections` at once, each with requests in flight; `read`: what comes back is read.
  Flood(const AgentProcess& agent, int connections, const wire::Request& request, bool read = true)
      : child_(::fork()) {
    if (child_ != 0) return;
    if (::setgroups(0, nullptr) != 0 || ::setgid(kFlooder) != 0 || ::setuid(kFlooder) != 0)
      ::_exit(100);
    run(agent.socket(), connections, request, read);
    ::_exit(0);
  }
  ~Flood() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

 private:
  static int connect(const std::filesystem::path& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.string().copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    return -1;
  }
  static void run(const std::filesystem::path& path, int connections, wire::Request request,
                  bool read) {
    request.set_id(1);
    SecretBytes frame;
    wire::append_frame(frame, wire::serialize(request));
    std::vector<int> open(static_cast<std::size_t>(connections), -1);
    std::vector<char> sink(65536);
    while (true) {
      for (int& fd : open) {
        if (fd < 0) fd = connect(path);
        if (fd < 0) continue;
        const auto sent = ::send(fd, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        const bool whole = sent == static_cast<ssize_t>(frame.size());
        const bool full = sent < 0 && errno == EAGAIN;
        const auto got = read ? ::recv(fd, sink.data(), sink.size(), MSG_DONTWAIT) : 1;
        if ((whole || full) && got != 0) continue;
        ::close(fd);
        fd = -1;
      }
      ::usleep(1000);  // paces: the rest of the machine is for the agent and the owner
    }
  }
  const pid_t child_;
};

class Budgets : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  }
  void start(const std::string& rule_of_the_flooder = {}) {
    agent_.policy = AgentProcess::allowing(
                        "open, seal, sign, public, create, destroy, rekey, suspend, reseal, "
                        "status, audit, admin, prove") +
                    rule_of_the_flooder;
    agent_.write("policy.yml", agent_.policy, 0644);
    agent_.start();
    agent_.create("data", "sign", "ec-p256");
  }
  static std::string allowing_flooder(const std::string& actions) {
    return "  - name: flooder\n    allow: [" + actions + "]\n    who: {user: \"" +
           std::to_string(kFlooder) + "\"}\n";
  }
  // How many of `count` signatures the owner gets, with a new connection for every 20.
  int owner_gets(int count) {
    int got = 0;
    for (int i = 0; i < count; i += 20) {
      auto owner = agent_.client();
      for (int j = 0; j < 20; ++j) {
        try {
          got += owner.call(AgentProcess::sign_request("data")).has_sign();
        } catch (const Error& error) {
          ADD_FAILURE() << code_name(error.code()) << ": " << error.what();
        }
      }
    }
    return got;
  }
  std::uint64_t refused_so_far() {
    auto client = agent_.client();
    return client.call(AgentProcess::status_request()).status().refused();
  }
  AgentProcess agent_;
};

TEST_F(Budgets, Fault148_AFloodOfRefusalsTakesLittleOfTheDiskAndNothingOfTheOwner) {
  start();
  const auto log = agent_.state() / "audit/audit.log";
  const auto before = std::filesystem::file_size(log);
  {
    const Flood flood(agent_, 64, AgentProcess::sign_request("data"));
    ASSERT_TRUE(wait_until([&] { return refused_so_far() > 300; })) << agent_.story();
    EXPECT_EQ(owner_gets(100), 100);
    ASSERT_TRUE(wait_until([&] { return refused_so_far() > 1200; })) << agent_.story();
  }
  EXPECT_EQ(owner_gets(20), 20);
  agent_.stop();
  // The owner's 120 signatures and some status are in it too.
  EXPECT_LT(std::filesystem::file_size(log) - before, 256U * 1024U);
  EXPECT_THAT(read_text(log), HasSubstr("\"what\":\"refused.summary\",\"who\":\"uid 61191\""));
}

TEST_F(Budgets, Fault149_AFullQueueOfOneUserIsNotBusyForAnother) {
  agent_.token_extra = "  sessions: 2\n";
  agent_.shimmed = true;
  start(allowing_flooder("sign, public"));
  agent_.set_faults("C_Sign:every=1:delay=2\n");
  const Flood flood(agent_, 600, AgentProcess::sign_request("data"));
  ASSERT_TRUE(wait_until([&] {
    auto client = agent_.client();
    return client.call(AgentProcess::status_request()).status().queued() > 32;
  })) << agent_.story();
  EXPECT_EQ(owner_gets(100), 100);
}

TEST_F(Budgets, Fault149_IdleConnectionsOfOthersDoNotBlockNewOnes) {
  agent_.extra = "limits: {connections: 128, connections-per-uid: 64}\n";
  start();
  std::vector<pid_t> children;
  for (uid_t uid = kFlooder; uid < kFlooder + 4; ++uid) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setgroups(0, nullptr) != 0 || ::setuid(uid) != 0) ::_exit(100);
      std::vector<int> held;
      for (int i = 0; i < 64; ++i) {
        held.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        agent_.socket().string().copy(address.sun_path, sizeof address.sun_path - 1);
        ::connect(held.back(), reinterpret_cast<sockaddr*>(&address), sizeof address);
      }
      while (true) ::pause();
    }
    children.push_back(child);
  }
  ASSERT_TRUE(wait_until([&] {
    auto client = agent_.client();
    return client.call(AgentProcess::status_request()).status().connections() >= 112;
  })) << agent_.story();
  EXPECT_EQ(owner_gets(100), 100);
  // A user without connections still gets one: the policy refuses the request, not the server.
  EXPECT_EQ(as_user(61199,
                    [&] {
                      try {
                        auto client = agent_.client();
                        client.call(AgentProcess::sign_request("data"));
                      } catch (const Error& error) {
                        return static_cast<int>(error.code());
                      }
                      return 0;
                    }),
            static_cast<int>(Code::kDenied));
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
}

// A client continues as if nothing had happened when the agent has closed its idle connection.
TEST_F(Budgets, Fault149_IdleConnectionsAreClosedAndAClientConnectsAgain) {
  agent_.extra = "limits: {idle-timeout: 500ms}\n";
  start();
  auto idle = agent_.client();
  EXPECT_TRUE(idle.call(AgentProcess::sign_request("data")).has_sign());
  EXPECT_TRUE(wait_until([&] {
    auto client = agent_.client();
    return client.call(AgentProcess::status_request()).status().connections() == 1;
  })) << agent_.story();
  EXPECT_TRUE(idle.call(AgentProcess::sign_request("data")).has_sign());
}

TEST_F(Budgets, Fault150_AThousandBadEnvelopesOfOneUserPauseThatUserOnly) {
  agent_.extra = "limits: {failures-per-key-per-day: 50}\n";
  start(allowing_flooder("open, public"));
  agent_.create("mail", "transport", "rsa-2048");
  wire::Request seal;
  auto owner = agent_.client();
  agent_.create("store", "storage");
  seal.mutable_seal()->set_key("store");
  seal.mutable_seal()->set_plaintext("the password");
  const std::string good = owner.call(seal).seal().envelope();
  std::string bad = good;
  bad[bad.size() - 3] = bad[bad.size() - 3] == 'A' ? 'B' : 'A';
  wire::Request open;
  open.mutable_open()->set_envelope(bad);
  const int result = as_user(kFlooder, [&] {
    auto client = agent_.client();
    for (int i = 0; i < 200; ++i) {
      try {
        client.call(open);
        return 1;
      } catch (const Error& error) {
        if (error.code() == Code::kKeyState) return i;
        if (error.code() != Code::kInput) return 2;
      }
    }
    return 3;
  });
  EXPECT_EQ(result, 50);
  open.mutable_open()->set_envelope(good);
  EXPECT_EQ(owner.call(open).open().plaintext(), "the password");
  const auto status = owner.call(AgentProcess::status_request()).status();
  ASSERT_EQ(status.paused_size(), 1);
  EXPECT_EQ(status.paused(0).caller(), "uid 61191");
  EXPECT_EQ(status.paused(0).key(), "store");
}

TEST_F(Budgets, Fault155_AHugeNameLeavesNoTraceAndTheTailShowsTheLog) {
  start();
  const auto log = agent_.state() / "audit/audit.log";
  wire::Request huge = AgentProcess::sign_request(std::string(250 * 1024, 'x'));
  EXPECT_EQ(as_user(kFlooder,
                    [&] {
                      auto client = agent_.client();
                      try {
                        client.call(huge);
                      } catch (const Error& error) {
                        return static_cast<int>(error.code());
                      }
                      return 0;
                    }),
            static_cast<int>(Code::kUsage));
  EXPECT_LT(std::filesystem::file_size(log), 16384u);
  EXPECT_LT(std::filesystem::file_size(agent_.log()), 16384u);
  wire::Request tail;
  tail.mutable_audit_tail()->set_count(5);
  auto owner = agent_.client();
  EXPECT_GT(owner.call(tail).audit_tail().records_size(), 1);
}

// A bad envelope and a cheap request in one write: the cheap answer does not come before
// that of the bad envelope.
TEST_F(Budgets, Fault104_WhatIsPipelinedBehindABadEnvelopeIsAnsweredAfterIt) {
  start();
  agent_.create("store", "storage");
  wire::Request seal;
  seal.mutable_seal()->set_key("store");
  seal.mutable_seal()->set_plaintext("x");
  std::string bad = agent_.client().call(seal).seal().envelope();
  bad[bad.size() - 3] = bad[bad.size() - 3] == 'A' ? 'B' : 'A';
  wire::Request open, status = AgentProcess::status_request();
  open.set_id(1);
  open.mutable_open()->set_envelope(bad);
  status.set_id(2);
  SecretBytes both;
  wire::append_frame(both, wire::serialize(open));
  wire::append_frame(both, wire::serialize(status));
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  agent_.socket().string().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  wire::FrameReader reader(wire::kMaxAnswer);
  for (int round = 0; round < 50; ++round) {
    ASSERT_EQ(::send(fd, both.data(), both.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(both.size()));
    std::vector<std::uint64_t> order;
    while (order.size() < 2) {
      const auto body = reader.next();
      if (!body) {
        const auto room = reader.space();
        const auto count = ::recv(fd, room.data(), room.size(), 0);
        ASSERT_GT(count, 0);
        reader.commit(static_cast<std::size_t>(count));
        continue;
      }
      wire::Response response;
      ASSERT_TRUE(wire::parse(*body, response));
      order.push_back(response.id());
    }
    EXPECT_THAT(order, testing::ElementsAre(1u, 2u));
  }
  ::close(fd);
}

}  // namespace
}  // namespace keyagent::test
