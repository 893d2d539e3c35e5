// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/code_of.h"
#include "tests/support/sanitized.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

Code code_of_sign(client::Client& connection) {
  try {
    connection.call(AgentProcess::sign_request("data"));
    return Code::kOk;
  } catch (const Error& error) {
    return error.code();
  }
}

std::string token_state(client::Client& connection) {
  return connection.call(AgentProcess::status_request()).status().token().state();
}

TEST(DaemonFaults, Fault005_StartsBeforeItsTokenAndHealsWithoutARestart) {
  AgentProcess agent;
  const auto tokens = agent.folder() / "tokens";
  std::filesystem::rename(tokens, agent.folder() / "away");
  std::filesystem::create_directory(tokens);
  agent.start();
  ASSERT_TRUE(agent.serving()) << read_text(agent.log());
  auto connection = agent.client();
  EXPECT_EQ(token_state(connection), "absent");
  std::filesystem::remove(tokens);
  std::filesystem::rename(agent.folder() / "away", tokens);
  EXPECT_TRUE(wait_until([&] { return token_state(connection) == "up"; }));
  EXPECT_TRUE(wait_until([&] {
    return connection.call(AgentProcess::status_request()).status().keys_size() == 1;
  })) << "the audit key";
  EXPECT_EQ(agent.stop(), 0);
}

TEST(DaemonFaults, Fault010_HungModuleIsAnsweredAndEndsTheProcessForTheServiceManager) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.token_extra = "  deadline: 2s\n  stuck-exit: 5s\n";
  agent.start();
  agent.create("data", "sign", "ec-p256");
  agent.set_faults("C_Sign:every=1:hang");
  auto connection = agent.client();
  EXPECT_THAT(code_of_sign(connection), testing::AnyOf(Code::kDeadline, Code::kTokenStuck));
  EXPECT_EQ(agent.wait(), 4) << read_text(agent.log());
  EXPECT_THAT(read_text(agent.log()), HasSubstr("has not returned"));
  agent.set_faults("");
  agent.start();
  auto again = agent.client();
  EXPECT_EQ(code_of_sign(again), Code::kOk);
}

TEST(DaemonFaults, Fault010_TerminationDoesNotWaitForAHungModule) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.token_extra = "  deadline: 2s\n";
  agent.start();
  agent.create("data", "sign", "ec-p256");
  agent.set_faults("C_Sign:every=1:hang");
  auto connection = agent.client();
  code_of_sign(connection);
  const auto before = std::chrono::steady_clock::now();
  agent.signal(SIGTERM);
  EXPECT_EQ(agent.wait(), 4);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 20s);
}

TEST(DaemonFaults, Fault042_CrashedModuleCostsOneRestartAndNoKey) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  agent.create("data", "sign", "ec-p256");
  agent.set_faults("C_Sign:n=2:segv");
  auto connection = agent.client(8s);
  EXPECT_EQ(code_of_sign(connection), Code::kOk);
  EXPECT_EQ(code_of_sign(connection), Code::kPeer);
  EXPECT_TRUE(is_crash(agent.wait()));
  agent.set_faults("");
  agent.start();
  EXPECT_EQ(code_of_sign(connection), Code::kOk) << "the same client reconnects";
}

// A request on which the module crashes, and a service manager that starts the agent again.
TEST(DaemonFaults, Fault042_ARequestThatCrashesTheModuleIsSentAgainOnceAtMost) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  const auto key = agent.create("credentials", "transport", "rsa-2048");
  const PublicKeyInfo info{Kid(key.kid()),
                           key.name(),
                           *key_algorithm_of(key.algorithm()),
                           Purpose::kTransport,
                           *envelope_algorithm_of(key.envelope()),
                           Bytes(key.spki().begin(), key.spki().end())};
  const auto sealed =
      envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm, SecretBytes{'t'});
  wire::Request open;
  open.mutable_open()->set_envelope(std::string(as_text(sealed)));
  std::ofstream(agent.folder() / "calls", std::ios::trunc).close();
  agent.set_faults("C_Decrypt:every=1:segv");
  std::atomic<bool> done{false};
  std::thread caller([&] {
    auto connection = agent.client(std::chrono::seconds(60));
    EXPECT_EQ(code_of([&] { connection.call(open); }), Code::kPeer);
    done = true;
  });
  EXPECT_TRUE(wait_until([&] {
    if (agent.ended()) agent.start();
    return done.load();
  }));
  caller.join();
  const auto calls = read_text(agent.folder() / "calls");
  int tries = 0;
  for (auto at = calls.find("C_Decrypt\n"); at != calls.npos;
       at = calls.find("C_Decrypt\n", at + 1))
    ++tries;
  EXPECT_GE(tries, 1);
  EXPECT_LE(tries, 2) << "once, and once more on another connection";
  agent.set_faults("");
  if (!agent.serving()) {
    EXPECT_TRUE(is_crash(agent.wait()));
    agent.start();
  }
  auto connection = agent.client();
  EXPECT_EQ(connection.call(open).open().plaintext(), "t") << agent.story();
  EXPECT_THAT(read_text(KEYAGENT_SYSTEMD "/keyagentd@.service"),
              HasSubstr("\nStartLimitBurst=3\n"));
}

std::string state_of_purpose(client::Client& connection, const std::string& purpose) {
  const auto response = connection.call(AgentProcess::status_request());
  for (const auto& key : response.status().keys())
    if (key.purpose() == purpose) return key.state();
  return {};
}

// How a token in files goes away: its folder, its content, its keys alone.
enum class Away { kFolder, kContent, kKeys };

class FilesAway : public testing::TestWithParam<Away> {
 protected:
  void take_away() const {
    const auto tokens = agent.folder() / "tokens";
    std::filesystem::create_directory(kept());
    if (GetParam() == Away::kKeys) {
      for (const auto& token : std::filesystem::directory_iterator(tokens)) {
        for (const auto& file : std::filesystem::directory_iterator(token))
          if (file.path().filename() != "token.object" && file.path().extension() == ".object")
            std::filesystem::rename(file.path(), kept() / file.path().filename());
      }
      return;
    }
    for (const auto& token : std::filesystem::directory_iterator(tokens))
      std::filesystem::rename(token.path(), kept() / token.path().filename());
    if (GetParam() == Away::kFolder) std::filesystem::remove(tokens);
  }
  void bring_back() const {
    auto to = agent.folder() / "tokens";
    std::filesystem::create_directory(to);
    if (GetParam() == Away::kKeys) to = std::filesystem::directory_iterator(to)->path();
    for (const auto& file : std::filesystem::directory_iterator(kept()))
      std::filesystem::rename(file.path(), to / file.path().filename());
  }
  std::filesystem::path kept() const { return agent.folder() / "kept"; }
  std::string doctor() const {
    wire::Request request;
    request.mutable_doctor();
    auto connection = agent.client();
    return connection.call(request).doctor().ShortDebugString();
  }
  AgentProcess agent;
};

TEST_P(FilesAway, Fault164_AWriteMeanwhileCostsNoKeyAndNothingAdvisesToDestroyOne) {
  agent.start();
  agent.create("data", "sign", "ec-p256");
  agent.create("credentials", "transport", "rsa-2048");
  const auto pid = agent.pid();
  auto connection = agent.client();
  take_away();
  if (GetParam() == Away::kKeys) {
    // The module has what it has read; a fresh run sees what is there.
    agent.stop();
    agent.start();
  }
  try {
    agent.create("more", "sign", "ec-p256");
  } catch (const Error& error) {
    EXPECT_NE(error.code(), Code::kKeyLost) << error.what();
  }
  EXPECT_NE(code_of_sign(connection), Code::kOk);
  if (GetParam() == Away::kKeys) {
    EXPECT_THAT(doctor(), HasSubstr("KEY_LOST"));
  } else {
    EXPECT_NE(token_state(connection), "up");
  }
  EXPECT_THAT(doctor(), testing::Not(HasSubstr("key destroy")));
  bring_back();
  EXPECT_TRUE(wait_until([&] { return code_of_sign(connection) == Code::kOk; }, 90s))
      << agent.story();
  EXPECT_TRUE(wait_until([&] { return doctor().find("KEY_LOST") == std::string::npos; }, 90s));
  EXPECT_EQ(token_state(connection), "up");
  EXPECT_NO_THROW(agent.create("later", "sign", "ec-p256"));
  if (GetParam() != Away::kKeys) EXPECT_EQ(agent.pid(), pid) << "no restart";
  EXPECT_FALSE(agent.ended());
}

INSTANTIATE_TEST_SUITE_P(DaemonFaults, FilesAway,
                         testing::Values(Away::kFolder, Away::kContent, Away::kKeys));

// A caller's key, and the agent's own for its checkpoints.
TEST(DaemonFaults, Fault020_Fault163_AWrongSignatureIsWithheldItsKeySuspendedAndAnAlarmGiven) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  const auto key = agent.create("data", "sign", "ed25519");
  auto connection = agent.client();
  agent.set_faults("C_Sign:n=1:flip");
  EXPECT_EQ(code_of_sign(connection), Code::kIntegrity);
  EXPECT_TRUE(wait_until([&] { return state_of_purpose(connection, "sign") == "suspended"; }));
  EXPECT_EQ(code_of_sign(connection), Code::kKeyState);
  wire::Request request;
  request.mutable_doctor();
  const auto doctor = connection.call(request).doctor();
  EXPECT_EQ(doctor.exit_code(), 6u);
  EXPECT_THAT(doctor.ShortDebugString(), HasSubstr("keyagent key resume data"));
  EXPECT_TRUE(wait_until([&] {
    return read_text(agent.state() / "audit/audit.log").find("\"what\":\"key.suspend\"") !=
           std::string::npos;
  }));
  EXPECT_THAT(read_text(agent.log()), HasSubstr("key.suspend data"));
  wire::Request resume;
  resume.mutable_key_state()->set_key(key.kid());
  resume.mutable_key_state()->set_state("active");
  connection.call(resume);
  EXPECT_EQ(code_of_sign(connection), Code::kOk) << "the printed fix";
  // Its next signature is a checkpoint's.
  agent.set_faults("C_Sign:n=1:flip");
  wire::Request verify;
  verify.mutable_audit_verify();
  connection.call(verify);
  EXPECT_TRUE(wait_until([&] { return state_of_purpose(connection, "audit") == "suspended"; }))
      << agent.story();
}

TEST(DaemonFaults, Fault031_TheAgentNeverLogsOutWhateverHappens) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  const auto key = agent.create("data", "sign", "ec-p256");
  auto connection = agent.client();
  agent.set_faults("C_SignInit:n=1:rv=0x101");
  EXPECT_EQ(code_of_sign(connection), Code::kOk) << "CKR_USER_NOT_LOGGED_IN costs a new session";
  agent.set_faults("C_Sign:n=1:rv=0x30; C_GenerateRandom:n=1:rv=0x30");
  code_of_sign(connection);
  agent.set_faults("");
  EXPECT_TRUE(wait_until([&] { return code_of_sign(connection) == Code::kOk; }));
  // The key's state stops it, not a logout: no new operation with it starts.
  wire::Request suspend;
  suspend.mutable_key_state()->set_key("data");
  suspend.mutable_key_state()->set_state("suspended");
  connection.call(suspend);
  EXPECT_EQ(code_of_sign(connection), Code::kKeyState);
  EXPECT_EQ(agent.stop(), 0);
  const auto calls = read_text(agent.folder() / "calls");
  EXPECT_THAT(calls, HasSubstr("C_Login\n"));
  EXPECT_EQ(calls.find("C_Logout"), std::string::npos);
}

// What SoftHSM leaves when it is killed while it rewrites its token's file in C_Login, and the
// drill of pkcs11/README.md.
TEST(DaemonFaults, Fault075_ATokenFileThatALoginLostIsRestoredWithEveryLaterKey) {
  AgentProcess agent;
  agent.shimmed = true;
  const auto token = std::filesystem::directory_iterator(agent.folder() / "tokens")->path();
  std::filesystem::copy_file(token / "token.object", agent.folder() / "token.object.copy");
  agent.start();
  const auto key = agent.create("data", "sign", "ec-p256");  // later than the copy
  auto connection = agent.client();
  for (int i = 0; i < 50; ++i) ASSERT_EQ(code_of_sign(connection), Code::kOk);
  const auto calls = read_text(agent.folder() / "calls");
  EXPECT_EQ(calls.find("C_Login\n"), calls.rfind("C_Login\n")) << "one login a start";
  agent.kill();
  std::filesystem::resize_file(token / "token.object", 0);
  agent.start();
  EXPECT_NE(token_state(connection), "up");
  EXPECT_NE(code_of_sign(connection), Code::kOk);
  wire::Request doctor;
  doctor.mutable_doctor();
  EXPECT_THAT(connection.call(doctor).doctor().ShortDebugString(),
              testing::Not(HasSubstr("key destroy")));
  run_command("cp '" + (agent.folder() / "token.object.copy").string() + "' '" +
              (token / "token.object").string() + "'");
  EXPECT_TRUE(
      wait_until([&] { return code_of_sign(connection) == Code::kOk; }, std::chrono::seconds(60)))
      << agent.story();
  EXPECT_EQ(connection.call(AgentProcess::sign_request("data")).sign().kid(), key.kid());
}

TEST(DaemonFaults, R13_DeadTokenMakesOneErrorLineForAThousandItems) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  agent.create("data", "sign", "ec-p256");
  const auto before = read_text(agent.log()).size();
  agent.set_faults(
      "C_SignInit:every=1:rv=0x30; C_GenerateRandom:every=1:rv=0x30; "
      "C_OpenSession:every=1:rv=0x30");
  auto connection = agent.client();
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) ASSERT_NE(code_of_sign(connection), Code::kOk);
  const auto minutes =
      std::chrono::ceil<std::chrono::minutes>(std::chrono::steady_clock::now() - started).count();
  const auto log = read_text(agent.log()).substr(before);
  int lines = 0;
  for (auto at = log.find("error gate:"); at != log.npos; at = log.find("error gate:", at + 1))
    ++lines;
  EXPECT_LE(lines, 1 + minutes) << log;
  EXPECT_GE(lines, 1) << log;
  agent.set_faults("");
  EXPECT_TRUE(wait_until([&] { return code_of_sign(connection) == Code::kOk; }, 60s));
}

}  // namespace
}  // namespace keyagent::test
