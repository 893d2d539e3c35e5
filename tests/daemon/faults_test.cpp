#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"

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
  agent.token_extra = "  deadline: 500ms\n  stuck-exit: 2s\n";
  agent.start();
  agent.create("data", "sign", "ec-p256");
  agent.set_faults("C_Sign:every=1:hang");
  auto connection = agent.client();
  EXPECT_THAT(code_of_sign(connection), testing::AnyOf(Code::kDeadline, Code::kTokenStuck));
  EXPECT_EQ(agent.wait(), 4) << read_text(agent.log());
  EXPECT_THAT(read_text(agent.log()), HasSubstr("has not come back"));
  agent.set_faults("");
  agent.start();
  auto again = agent.client();
  EXPECT_EQ(code_of_sign(again), Code::kOk);
}

TEST(DaemonFaults, Fault010_TerminationDoesNotWaitForAHungModule) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.token_extra = "  deadline: 500ms\n";
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
  auto connection = agent.client(2s);
  EXPECT_EQ(code_of_sign(connection), Code::kOk);
  EXPECT_EQ(code_of_sign(connection), Code::kPeer);
  EXPECT_EQ(agent.wait(), 128 + SIGSEGV);
  agent.set_faults("");
  agent.start();
  EXPECT_EQ(code_of_sign(connection), Code::kOk) << "the same client reconnects";
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
TEST(DaemonFaults, Fault163_AWrongSignatureIsWithheldItsKeySuspendedAndAnAlarmGiven) {
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
  EXPECT_EQ(code_of_sign(connection), Code::kOk) << "the printed cure";
  // Its next signature is a checkpoint's.
  agent.set_faults("C_Sign:n=1:flip");
  wire::Request verify;
  verify.mutable_audit_verify();
  connection.call(verify);
  EXPECT_TRUE(wait_until([&] { return state_of_purpose(connection, "audit") == "suspended"; }))
      << agent.story();
}

TEST(DaemonFaults, Fault031_OtherTokensAreNotTouchedWhenSessionsAreLoggedOut) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  agent.create("data", "sign", "ec-p256");
  auto connection = agent.client();
  agent.set_faults("C_SignInit:n=1:rv=0x101");
  EXPECT_EQ(code_of_sign(connection), Code::kOk) << "CKR_USER_NOT_LOGGED_IN costs a new session";
  EXPECT_EQ(read_text(agent.folder() / "calls").find("C_Logout"), std::string::npos);
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
  for (int i = 0; i < 1000; ++i) ASSERT_NE(code_of_sign(connection), Code::kOk);
  const auto log = read_text(agent.log()).substr(before);
  int lines = 0;
  for (auto at = log.find("error gate:"); at != log.npos; at = log.find("error gate:", at + 1))
    ++lines;
  EXPECT_LE(lines, 2) << log;
  EXPECT_GE(lines, 1) << log;
  agent.set_faults("");
  EXPECT_TRUE(wait_until([&] { return code_of_sign(connection) == Code::kOk; }, 60s));
}

}  // namespace
}  // namespace keyagent::test
