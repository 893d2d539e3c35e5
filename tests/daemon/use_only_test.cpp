// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 81, 167: an agent that cannot write its folders keeps running, uses keys as far as it
// can record the use, changes nothing, reports the reason, and recovers without a restart.

#include <gmock/gmock.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// How a folder is made read-only: its mode, which is enough for an agent that is not root, or a
// mount, as after `mount -o remount,ro`.
enum class Means { kMode, kMount };

class ReadOnlyFolder {
 public:
  ReadOnlyFolder(std::filesystem::path folder, Means means)
      : folder_(std::move(folder)), means_(means) {}
  void make_read_only() {
    if (means_ == Means::kMode) {
      ::chmod(folder_.c_str(), 0500);
    } else if (::mount(folder_.c_str(), folder_.c_str(), nullptr, MS_BIND, nullptr) == 0) {
      bound_ = true;
      ::mount(nullptr, folder_.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr);
    }
  }
  ReadOnlyFolder(const ReadOnlyFolder&) = delete;
  ~ReadOnlyFolder() {
    make_writable();
    if (bound_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  void make_writable() const {
    if (means_ == Means::kMode) ::chmod(folder_.c_str(), 0700);
    if (bound_) ::mount(nullptr, folder_.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr);
  }

 private:
  const std::filesystem::path folder_;
  const Means means_;
  bool bound_ = false;
};

wire::Response ask(const AgentProcess& agent, const wire::Request& request) {
  wire::Response response;
  try {
    auto connection = agent.client();
    return connection.call(request);
  } catch (const Error& error) {
    response.mutable_failure()->set_code(static_cast<wire::ErrorCode>(error.code()));
    response.mutable_failure()->set_text(error.what());
  }
  return response;
}

wire::Request create_request(const std::string& name) {
  wire::Request request;
  request.mutable_key_create()->set_name(name);
  request.mutable_key_create()->set_purpose("sign");
  request.mutable_key_create()->set_algorithm("ec-p256");
  return request;
}

bool creates(const AgentProcess& agent, const std::string& name) {
  return !ask(agent, create_request(name)).has_failure();
}
bool signs(const AgentProcess& agent) {
  return !ask(agent, AgentProcess::sign_request("data")).has_failure();
}

std::string doctor(const AgentProcess& agent) {
  wire::Request request;
  request.mutable_doctor();
  return ask(agent, request).doctor().DebugString();
}

bool audit_verifies(const AgentProcess& agent) {
  wire::Request request;
  request.mutable_audit_verify();
  const auto reply = ask(agent, request);
  EXPECT_TRUE(reply.audit_verify().ok()) << reply.DebugString();
  return reply.audit_verify().ok();
}

class UseOnly : public testing::TestWithParam<Means> {
 protected:
  void SetUp() override {
    if (GetParam() == Means::kMount && ::geteuid() != 0)
      GTEST_SKIP() << "only root may mount a file system; the other means is tested here";
  }
  // An agent that has made a key and was killed: part of its ledger is in the write-ahead log only.
  void make_key() {
    agent_.start();
    ASSERT_TRUE(agent_.serving()) << agent_.story();
    agent_.create("data", "sign", "ec-p256");
    agent_.kill();
    ASSERT_GT(std::filesystem::file_size(agent_.state() / "ledger.db-wal"), 0u);
  }
  void audit_elsewhere() {
    agent_.extra = "audit:\n  folder: " + audit().string() + "\n";
    std::filesystem::create_directory(audit());
    std::filesystem::permissions(audit(), std::filesystem::perms(0700));
  }
  std::filesystem::path audit() const { return agent_.folder() / "audit"; }

  AgentProcess agent_;
};

TEST_P(UseOnly, Fault081_Fault167_ReadOnlyStateFolderUsesKeysAndChangesNothing) {
  audit_elsewhere();
  make_key();
  ReadOnlyFolder state(agent_.state(), GetParam());
  agent_.before_spawn = [&] { state.make_read_only(); };
  agent_.start();
  ASSERT_TRUE(agent_.serving()) << agent_.story();
  EXPECT_TRUE(wait_until([&] { return signs(agent_); })) << agent_.story();
  EXPECT_TRUE(wait_until([&] {
    return read_text(audit() / "audit.log").find("\"what\":\"sign\"") != std::string::npos;
  }));
  const auto refused = ask(agent_, create_request("more"));
  EXPECT_EQ(refused.failure().code(), wire::KEY_STATE) << refused.DebugString();
  EXPECT_THAT(refused.failure().text(), HasSubstr(agent_.state().string()));
  wire::Request rekey;
  rekey.mutable_rekey()->set_name("data");
  EXPECT_EQ(ask(agent_, rekey).failure().code(), wire::KEY_STATE);
  const auto status = ask(agent_, AgentProcess::status_request()).status();
  EXPECT_THAT(status.use_only(), HasSubstr(agent_.state().string()));
  EXPECT_TRUE(status.audit_healthy()) << status.audit_fault();
  EXPECT_THAT(doctor(agent_), HasSubstr("the agent resumes without a restart"));
  const auto pid = agent_.pid();
  state.make_writable();
  EXPECT_TRUE(wait_until([&] { return creates(agent_, "more"); })) << agent_.story();
  EXPECT_TRUE(signs(agent_));
  EXPECT_TRUE(ask(agent_, AgentProcess::status_request()).status().use_only().empty());
  EXPECT_EQ(agent_.pid(), pid);
  EXPECT_EQ(agent_.stop(), 0) << agent_.story();
  agent_.before_spawn = nullptr;
  agent_.start();
  EXPECT_TRUE(wait_until([&] { return signs(agent_); })) << agent_.story();
  EXPECT_FALSE(ask(agent_, AgentProcess::sign_request("more")).has_failure()) << agent_.story();
}

// The one temporary folder that is this agent's own, where the service manager gives it one.
TEST_P(UseOnly, Fault081_CopyOfTheLedgerIsMadeInTheRuntimeDirectory) {
  audit_elsewhere();
  make_key();
  const auto runtime = agent_.folder() / "runtime";
  std::filesystem::create_directory(runtime);
  const int watch = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  ASSERT_GE(::inotify_add_watch(watch, runtime.c_str(), IN_CREATE), 0);
  ReadOnlyFolder state(agent_.state(), GetParam());
  agent_.before_spawn = [&] { state.make_read_only(); };
  agent_.start({"RUNTIME_DIRECTORY=" + runtime.string() + ":/nonexistent"});
  ASSERT_TRUE(agent_.serving()) << agent_.story();
  EXPECT_TRUE(wait_until([&] { return signs(agent_); })) << agent_.story();
  char events[4096];
  const auto size = ::read(watch, events, sizeof events);
  ::close(watch);
  ASSERT_GT(size, 0) << "no copy was made there";
  EXPECT_THAT(std::string(events, static_cast<std::size_t>(size)), HasSubstr("keyagent-ledger-"));
  EXPECT_TRUE(std::filesystem::is_empty(runtime)) << "it is removed";
}

TEST_P(UseOnly, Fault166_Fault167_AuditFolderThatCannotBeWrittenAtTheStartRefusesUses) {
  audit_elsewhere();
  make_key();
  {
    ReadOnlyFolder folder(audit(), GetParam());
    agent_.before_spawn = [&] { folder.make_read_only(); };
    // The file itself can be appended to where only its folder's mode forbids more.
    const std::filesystem::path log = audit() / "audit.log";
    if (GetParam() == Means::kMode) ::chmod(log.c_str(), 0400);
    agent_.start();
    ASSERT_TRUE(agent_.serving()) << agent_.story();
    const auto refused = ask(agent_, AgentProcess::sign_request("data"));
    EXPECT_EQ(refused.failure().code(), wire::INTERNAL) << refused.DebugString();
    EXPECT_THAT(refused.failure().text(), HasSubstr("the audit log cannot be written"));
    EXPECT_TRUE(ask(agent_, create_request("more")).has_failure());
    const auto status = ask(agent_, AgentProcess::status_request()).status();
    EXPECT_FALSE(status.audit_healthy());
    EXPECT_THAT(status.audit_fault(), HasSubstr("audit.log"));
    EXPECT_THAT(doctor(agent_), HasSubstr("the audit log cannot be written"));
    folder.make_writable();
    if (GetParam() == Means::kMode) ::chmod(log.c_str(), 0600);
    EXPECT_TRUE(wait_until([&] {
      return ask(agent_, AgentProcess::status_request()).status().audit_healthy();
    })) << agent_.story();
    EXPECT_TRUE(signs(agent_));
    const auto created = ask(agent_, create_request("more"));
    EXPECT_FALSE(created.has_failure()) << created.DebugString() << agent_.story();
    EXPECT_TRUE(audit_verifies(agent_));
    const auto text = read_text(log);
    const auto first = text.find("\"what\":\"start\"");
    EXPECT_NE(text.find("\"what\":\"start\"", first + 1), text.npos)
        << "the start is recorded later";
    EXPECT_EQ(agent_.stop(), 0) << agent_.story();
  }
}

TEST_P(UseOnly, Fault081_StateFolderWithTheAuditLogInItIsServedAndRecovers) {
  make_key();
  ReadOnlyFolder state(agent_.state(), GetParam());
  agent_.before_spawn = [&] { state.make_read_only(); };
  const auto log = agent_.state() / "audit/audit.log";
  if (GetParam() == Means::kMode) ::chmod(log.c_str(), 0400);
  agent_.start();
  ASSERT_TRUE(agent_.serving()) << agent_.story();
  EXPECT_FALSE(signs(agent_)) << "it could not be recorded";
  EXPECT_FALSE(creates(agent_, "more"));
  EXPECT_THAT(doctor(agent_), HasSubstr("keys are not used unrecorded"));
  state.make_writable();
  if (GetParam() == Means::kMode) ::chmod(log.c_str(), 0600);
  EXPECT_TRUE(wait_until([&] { return signs(agent_); })) << agent_.story();
  EXPECT_TRUE(wait_until([&] { return creates(agent_, "more"); })) << agent_.story();
  EXPECT_TRUE(audit_verifies(agent_));
}

// A folder whose mode is changed under a running agent.
TEST(UseOnlyLater, Fault081_FolderThatBecomesReadOnlyIsNoticedAndChangesResume) {
  AgentProcess agent;
  agent.start();
  agent.create("data", "sign", "ec-p256");
  ReadOnlyFolder state(agent.state(), Means::kMode);
  state.make_read_only();
  int number = 0;
  EXPECT_TRUE(wait_until([&] {
    return ask(agent, create_request("more-" + std::to_string(++number))).failure().code() ==
           wire::KEY_STATE;
  })) << agent.story();
  EXPECT_TRUE(signs(agent));
  state.make_writable();
  EXPECT_TRUE(wait_until([&] { return creates(agent, "after"); })) << agent.story();
}

// On a mount only, because SoftHSM sets the modes of its files.
class UseOnlyToken : public UseOnly {};

// The token's own files: SoftHSM logs in and signs there, and fails in the middle of a write.
TEST_P(UseOnlyToken, Fault081_TokenFolderThatCannotBeWrittenSignsAndIsNotAskedToWrite) {
  make_key();
  ReadOnlyFolder tokens(agent_.folder() / "tokens", GetParam());
  agent_.before_spawn = [&] { tokens.make_read_only(); };
  agent_.start();
  ASSERT_TRUE(agent_.serving()) << agent_.story();
  EXPECT_TRUE(wait_until([&] { return signs(agent_); })) << agent_.story();
  const auto refused = ask(agent_, create_request("more"));
  EXPECT_EQ(refused.failure().code(), wire::TOKEN_FULL) << refused.DebugString();
  EXPECT_THAT(refused.failure().text(), HasSubstr("read-only file system"));
  wire::Request destroy;
  destroy.mutable_key_destroy()->set_key("data");
  destroy.mutable_key_destroy()->set_confirm_kid(
      ask(agent_, create_request("data")).key_create().key().kid());
  EXPECT_EQ(ask(agent_, destroy).failure().code(), wire::TOKEN_FULL);
  EXPECT_TRUE(signs(agent_)) << "nothing was journaled: " << agent_.story();
  tokens.make_writable();
  EXPECT_TRUE(wait_until([&] { return creates(agent_, "more"); })) << agent_.story();
  EXPECT_TRUE(signs(agent_)) << agent_.story();
}

// By its mode the folder's lock is taken as ever; on a read-only mount it is shared, and the
// token's owner marker tells the second agent.
TEST_P(UseOnly, Fault167_SecondAgentOfAReadOnlyFolderIsRefused) {
  audit_elsewhere();
  make_key();
  ReadOnlyFolder state(agent_.state(), GetParam());
  agent_.before_spawn = [&] { state.make_read_only(); };
  agent_.start();
  ASSERT_TRUE(wait_until([&] { return signs(agent_); })) << agent_.story();
  // Its own socket, configuration and audit log; the same state folder and token.
  const std::string first = read_text(agent_.folder() / "keyagentd.yml");
  std::string text = first;
  for (const char* word : {"agent.sock", "/audit\n"}) {
    const std::string before = word;
    const auto at = text.find(before);
    ASSERT_NE(at, text.npos) << word;
    text.insert(at + before.find_last_not_of('\n') + 1, "2");
  }
  agent_.write("second.yml", text, 0644);
  const std::string user =
      ::geteuid() == 0 ? "setpriv --reuid 61190 --regid 61190 --clear-groups " : "";
  const auto second = try_command("timeout 60 " + user + std::string(KEYAGENTD) + " --config " +
                                  (agent_.folder() / "second.yml").string() + " 2>&1");
  const char* why =
      GetParam() == Means::kMode ? "is held by process" : "another agent uses this token";
  EXPECT_THAT(second.output, HasSubstr(why)) << second.status;
  EXPECT_TRUE(signs(agent_));
}

INSTANTIATE_TEST_SUITE_P(ReadOnlyMount, UseOnlyToken, testing::Values(Means::kMount));
INSTANTIATE_TEST_SUITE_P(All, UseOnly, testing::Values(Means::kMode, Means::kMount),
                         [](const auto& info) {
                           return info.param == Means::kMode ? "ByItsMode" : "ByAMount";
                         });

}  // namespace
}  // namespace keyagent::test
