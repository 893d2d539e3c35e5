// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

TEST(Daemon, R1_ServesKeysAndFindsThemAgainAfterARestart) {
  AgentProcess agent;
  agent.start();
  ASSERT_TRUE(agent.serving()) << read_text(agent.log());
  const auto key = agent.create("data", "sign", "ec-p256");
  auto first = agent.client();
  EXPECT_EQ(first.call(AgentProcess::sign_request("data")).sign().kid(), key.kid());
  EXPECT_EQ(agent.stop(), 0) << read_text(agent.log());
  agent.start();
  auto second = agent.client();
  EXPECT_EQ(second.call(AgentProcess::sign_request("data")).sign().kid(), key.kid());
  EXPECT_EQ(agent.create("data", "sign", "ec-p256").kid(), key.kid()) << "never a second key";
}

TEST(Daemon, AuditKeyIsMadeOnceAndSignsCheckpoints) {
  AgentProcess agent;
  agent.start();
  wire::Request verify;
  verify.mutable_audit_verify();
  auto connection = agent.client();
  const auto reply = connection.call(verify).audit_verify();
  EXPECT_TRUE(reply.ok()) << reply.text();
  EXPECT_GE(reply.checkpoints_verified(), 1u) << reply.text();
  EXPECT_EQ(reply.checkpoints(), reply.checkpoints_verified());
  EXPECT_EQ(agent.stop(), 0);
  EXPECT_THAT(read_text(agent.state() / "audit/audit.log"), HasSubstr("\"what\":\"stop\""));
}

TEST(Daemon, Fault041_EndsWithoutACrash) {
  AgentProcess agent;
  for (int i = 0; i < 5; ++i) {
    agent.start();
    EXPECT_EQ(agent.stop(), 0) << read_text(agent.log());
  }
}

// Temporary files beside the ones that were being replaced.
TEST(Daemon, Fault041_WhatAKilledAgentLeftInItsFoldersIsRemovedAtTheNextStart) {
  AgentProcess agent;
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  agent.kill();
  const auto state = agent.state();
  std::filesystem::create_directories(state / "credentials");
  const std::vector<std::filesystem::path> left{
      state / ".link.json.tmp-AbC123", state / ".credential-versions.json.tmp-Xy0000",
      state / "credentials/.db.json.tmp-zzzzzz", state / "audit/.checkpoint.json.tmp-000000"};
  const std::vector<std::filesystem::path> kept{state / ".pin.backup", state / ".link.json.backup",
                                                state / "credentials/db.json"};
  for (const auto& files : {left, kept})
    for (const auto& file : files) std::ofstream(file) << "x";
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  for (const auto& file : left)
    EXPECT_TRUE(wait_until([&] { return !std::filesystem::exists(file); })) << file;
  for (const auto& file : kept) EXPECT_TRUE(std::filesystem::exists(file)) << file;
}

TEST(Daemon, Fault085_SecondAgentOnOneStateFolderIsRefusedAndNamesTheFirst) {
  AgentProcess agent;
  agent.start();
  const auto result =
      try_command("setpriv --reuid " + std::to_string(AgentProcess::kUser) + " --regid " +
                  std::to_string(AgentProcess::kUser) + " --clear-groups " KEYAGENTD " --config " +
                  (agent.folder() / "keyagentd.yml").string() + " 2>&1");
  if (::geteuid() != 0) GTEST_SKIP() << "setpriv needs root";
  EXPECT_EQ(result.status, 4) << result.output;
  EXPECT_THAT(result.output, HasSubstr(std::to_string(agent.pid())));
}

TEST(Daemon, Fault085_SecondAgentOnOneTokenIsRefusedAndNamesTheFirst) {
  AgentProcess agent;
  agent.start();
  auto config = agent.config();
  const auto state = agent.state().string();
  for (auto at = config.find(state); at != config.npos; at = config.find(state, at + 1))
    config.replace(at, state.size(), agent.folder().string() + "/other");
  const auto socket = agent.socket().string();
  config.replace(config.find(socket), socket.size(), agent.folder().string() + "/run/other.sock");
  agent.write("other.yml", config, 0644);
  std::string command = KEYAGENTD " --config " + (agent.folder() / "other.yml").string() + " 2>&1";
  if (::geteuid() == 0) {
    run_command("chown 61190 " + (agent.folder() / "other.yml").string());
    command = "setpriv --reuid 61190 --regid 61190 --clear-groups " + command;
  }
  const auto result = try_command(command);
  EXPECT_EQ(result.status, 4) << result.output;
  EXPECT_THAT(result.output, HasSubstr("pid " + std::to_string(agent.pid())));
  EXPECT_THAT(result.output, HasSubstr(state));
  auto connection = agent.client();
  EXPECT_TRUE(connection.call(AgentProcess::status_request()).has_status());
  agent.kill();
  EXPECT_EQ(agent.wait(), 128 + SIGKILL);
  agent.start();
  EXPECT_TRUE(agent.serving()) << "the marker of a dead agent does not hold";
}

TEST(Daemon, ReloadAppliesAChangedPolicyAndKeepsTheOldOneWhenItIsInvalid) {
  AgentProcess agent;
  agent.start();
  agent.create("data", "sign", "ec-p256");
  auto connection = agent.client();
  const auto allowed = [&] {
    try {
      return connection.call(AgentProcess::sign_request("data")).has_sign();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kDenied);
      return false;
    }
  };
  ASSERT_TRUE(allowed());
  const auto good = agent.policy;
  agent.policy = "rules:\n  - nonsense: 1\n";
  agent.write("policy.yml", agent.policy, 0644);
  if (::geteuid() == 0) run_command("chown 61190 " + (agent.folder() / "policy.yml").string());
  agent.signal(SIGHUP);
  EXPECT_TRUE(
      wait_until([&] { return read_text(agent.log()).find("not reloaded") != std::string::npos; }));
  EXPECT_TRUE(allowed());
  agent.write("policy.yml", "rules:\n  - name: see\n    allow: [status]\n    who: {anyone: true}\n",
              0644);
  if (::geteuid() == 0) run_command("chown 61190 " + (agent.folder() / "policy.yml").string());
  agent.signal(SIGHUP);
  EXPECT_TRUE(wait_until([&] { return !allowed(); }));
  EXPECT_EQ(agent.stop(), 0);
  const auto audit = read_text(agent.state() / "audit/audit.log");
  EXPECT_THAT(audit, HasSubstr("\"what\":\"config.reload\""));
}

TEST(Daemon, T11_TellsTheServiceManagerWhenItIsReady) {
  AgentProcess agent;
  const auto path = (agent.folder() / "run/notify").string();
  const int notify = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(notify, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  agent.start({"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=1000000"});
  std::string heard;
  const timeval patience{20, 0};
  ::setsockopt(notify, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  while (heard.find("WATCHDOG=1") == std::string::npos) {
    char buffer[512];
    const auto count = ::recv(notify, buffer, sizeof(buffer), 0);
    ASSERT_GT(count, 0) << heard;
    heard.append(buffer, static_cast<std::size_t>(count)).append("|");
  }
  EXPECT_THAT(heard, testing::StartsWith("READY=1\nSTATUS=token keyagent-test is up"));
  EXPECT_EQ(agent.stop(), 0);
  ::close(notify);
}

}  // namespace
}  // namespace keyagent::test
