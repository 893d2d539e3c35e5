// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

TEST(DaemonRefusals, Fault110_OtherUidIsRefusedRecordedAndToldTheRule) {
  if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  AgentProcess agent;
  agent.start();
  agent.create("data", "sign", "ec-p256");
  const int code = as_user(61191, [&] {
    try {
      auto connection = agent.client();
      connection.call(AgentProcess::sign_request("data"));
      return 0;
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
  });
  EXPECT_EQ(code, static_cast<int>(Code::kDenied));
  const auto audit = read_text(agent.state() / "audit/audit.log");
  EXPECT_THAT(audit, HasSubstr("\"what\":\"refused\",\"who\":\"uid 61191"));
}

TEST(DaemonRefusals, Fault110_SocketModeKeepsOthersOut) {
  if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  AgentProcess agent;
  agent.start();
  std::filesystem::permissions(agent.socket(), std::filesystem::perms(0660));
  EXPECT_EQ(as_user(61191,
                    [&] {
                      try {
                        auto connection = agent.client(std::chrono::milliseconds(500));
                        connection.call(AgentProcess::status_request());
                        return 0;
                      } catch (const Error& error) {
                        return error.code() == Code::kPeer ? 1 : 2;
                      }
                    }),
            1);
}

// agent/wire/PROTOCOL.md: answered once with id 0, then the end; other connections are not
// affected.
TEST(DaemonRefusals, Fault115_MalformedFrameIsAnsweredAndItsConnectionClosed) {
  AgentProcess agent;
  agent.start();
  auto other = agent.client();
  ASSERT_FALSE(other.call(AgentProcess::status_request()).has_failure());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  agent.socket().string().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::string frame("\0\0\0\3\xff\xff\xff", 7);
  ASSERT_EQ(::send(fd, frame.data(), frame.size(), MSG_NOSIGNAL), 7);
  std::string answer;
  char buffer[4096];
  for (ssize_t count = 0; (count = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
    answer.append(buffer, static_cast<std::size_t>(count));
  ::close(fd);
  wire::Response response;
  ASSERT_GT(answer.size(), 4u);
  ASSERT_TRUE(response.ParseFromString(answer.substr(4)));
  EXPECT_EQ(response.id(), 0u);
  EXPECT_EQ(response.failure().code(), wire::USAGE);
  EXPECT_FALSE(other.call(AgentProcess::status_request()).has_failure());
}

struct Trap {
  const char* name;
  std::function<void(AgentProcess&)> set;
  int status;
  const char* says;
};

class DaemonTrap : public testing::TestWithParam<Trap> {};

TEST_P(DaemonTrap, T4_EndsTheStartWithOneLineAndItsFix) {
  AgentProcess agent;
  GetParam().set(agent);
  EXPECT_EQ(agent.run_to_end(), GetParam().status) << read_text(agent.log());
  EXPECT_THAT(read_text(agent.log()), HasSubstr(GetParam().says));
}

const Trap kTraps[] = {
    {"UnknownField", [](auto& agent) { agent.extra = "sockets: 1\n"; }, 2, "sockets"},
    {"LoosePinFile",
     [](auto& agent) {
       std::filesystem::permissions(agent.folder() / "pin", std::filesystem::perms(0644));
     },
     2, "chmod"},
    {"PolicyThatOthersMayWrite",
     [](auto& agent) {
       std::filesystem::permissions(agent.folder() / "policy.yml", std::filesystem::perms(0666));
     },
     2, "policy.yml"},
    {"BrokenPolicy",
     [](auto& agent) {
       agent.write("policy.yml", "rules:\n  - name: x\n    alow: [open]\n", 0644);
     },
     2, "policy.yml:2"},
    {"AbsentModule", [](auto& agent) { agent.token_extra = "  module: /nonexistent/module.so\n"; },
     2, "/nonexistent/module.so"},
    {"UnknownOption", [](auto& agent) { agent.arguments = {"--skip-checks"}; }, 2, "skip-checks"},
};
INSTANTIATE_TEST_SUITE_P(All, DaemonTrap, testing::ValuesIn(kTraps),
                         [](const auto& trap) { return trap.param.name; });

TEST(DaemonRefusals, RunsAsRootOnlyWhenToldSo) {
  if (::geteuid() != 0) GTEST_SKIP() << "this needs root";
  AgentProcess agent;
  agent.write("profile.yml", agent.profile(), 0644);
  agent.write("keyagentd.yml", agent.config(), 0644);
  const auto result =
      try_command(KEYAGENTD " --config " + (agent.folder() / "keyagentd.yml").string() + " 2>&1");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.output, HasSubstr("--allow-root"));
}

TEST(DaemonRefusals, Fault024_WrongPinIsTriedOnceInFiveStarts) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.write("pin", "wrong-pin\n", 0400);
  for (int i = 0; i < 5; ++i) {
    agent.start();
    ASSERT_TRUE(agent.serving()) << read_text(agent.log());
    auto connection = agent.client();
    EXPECT_EQ(connection.call(AgentProcess::status_request()).status().token().state(),
              "pin-refused");
    agent.stop();
  }
  const auto calls = read_text(agent.folder() / "calls");
  int logins = 0;
  for (auto at = calls.find("C_Login"); at != calls.npos; at = calls.find("C_Login", at + 1))
    ++logins;
  EXPECT_EQ(logins, 1);
}

}  // namespace
}  // namespace keyagent::test
