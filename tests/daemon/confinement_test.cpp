// SPDX-License-Identifier: Apache-2.0
// What the unit keeps from a hostile module, and from an agent that takes all memory.

#include <gmock/gmock.h>
#include <netinet/in.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"
#include "tests/daemon/unit_sandbox.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// A listener on this host's loopback interface.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(fd_, 8);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { ::close(fd_); }
  unsigned port() const { return port_; }

 private:
  int fd_;
  unsigned port_ = 0;
};

std::filesystem::path unit_file() {
  return std::filesystem::path(KEYAGENT_SYSTEMD) / "keyagentd@.service";
}

constexpr const char* kReaches[] = {"connect", "netlink", "write", "code", "exec"};

// A signature during which the module tries them all; what became of each.
std::string reaches_of(AgentProcess& agent, const Listener& listener) {
  agent.create("data", "sign", "ec-p256");
  agent.set_faults("C_SignInit:n=1:reach=" + std::to_string(listener.port()));
  auto connection = agent.client();
  EXPECT_TRUE(connection.call(AgentProcess::sign_request("data")).has_sign()) << "it serves";
  return read_text(agent.folder() / "calls");
}

TEST(Confinement, Fault118_Control_WithoutTheUnitAModuleReachesWhatItsUserMay) {
  const Listener listener;
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  const auto calls = reaches_of(agent, listener);
  for (const char* what : kReaches)
    EXPECT_THAT(calls, HasSubstr(std::string("reach ") + what + " done"));
}

// The agent process itself loads the module, so limits on a hostile module are also limits on an
// attacker who runs code in the agent.
TEST(Confinement,
     Fault118_Fault119_InTheUnitsSandboxAHostileModuleReachesNothingAndTheAgentServes) {
  if (::geteuid() != 0) GTEST_SKIP() << "a sandbox with mounts of its own needs root";
  if (try_command("systemd-analyze --version 2>&1").status != 0)
    GTEST_SKIP() << "systemd-analyze, which knows the sets of system calls, is not installed";
  if (!mounts_can_be_private()) GTEST_SKIP() << "this chroot cannot make mounts private";
  const Listener listener;
  AgentProcess agent;
  agent.shimmed = true;
  const UnitSandbox sandbox(unit_file(), {agent.folder()}, {KEYAGENTD, KEYAGENT_SHIM});
  agent.enter_sandbox = [&] { sandbox.enter(); };
  agent.seal_sandbox = [&] { sandbox.seal(); };
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  const auto calls = reaches_of(agent, listener);
  for (const char* what : kReaches)
    EXPECT_THAT(calls, HasSubstr(std::string("reach ") + what + " refused"));
  EXPECT_THAT(calls, HasSubstr("reach namespace refused"));
  EXPECT_THAT(calls, Not(HasSubstr(" done")));
  EXPECT_EQ(agent.stop(), 0) << agent.story();
}

// --- memory
// -------------------------------------------------------------------------------------------------

std::size_t kibibytes_of(pid_t pid, const std::string& field) {
  const auto status = read_text("/proc/" + std::to_string(pid) + "/status");
  const auto at = status.find(field + ":");
  return at == status.npos ? 0 : std::stoul(status.substr(at + field.size() + 1));
}

TEST(Confinement, Fault083_TheUnitsMemoryLimitIsTwiceTheMeasuredPeak) {
  const auto unit = read_text(unit_file());
  const auto at = unit.find("\nMemoryMax=");
  ASSERT_NE(at, unit.npos);
  ASSERT_EQ(unit.substr(unit.find_first_not_of("0123456789", at + 11), 2), "M\n");
  const auto limit = std::stoul(unit.substr(at + 11)) * 1024;
  AgentProcess agent;
  agent.start();
  agent.create("data", "sign", "rsa-2048");
  agent.create("credentials", "transport", "rsa-2048");
  // Connections with requests of the largest size that do not open, and others that sign.
  std::vector<std::thread> callers;
  for (int i = 0; i < 24; ++i) {
    callers.emplace_back([&agent, i] {
      auto connection = agent.client(std::chrono::seconds(60));
      wire::Request open;
      open.mutable_open()->set_envelope(std::string(200 << 10, 'x'));
      for (int j = 0; j < 20; ++j) {
        try {
          connection.call(i % 2 == 0 ? open : AgentProcess::sign_request("data"));
        } catch (const Error&) {
          // Refused: it took its memory all the same.
        }
      }
    });
  }
  for (auto& caller : callers) caller.join();
  const auto peak = kibibytes_of(agent.pid(), "VmHWM");
  EXPECT_GT(peak, 1000u);
  EXPECT_LE(2 * peak, limit) << "the peak was " << peak << " KiB";
}

// A memory cgroup of this test's own, of either version.
class MemoryGroup {
 public:
  explicit MemoryGroup(std::size_t bytes) {
    for (const char* root : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
      const bool first = std::filesystem::exists(std::string(root) + "/memory.limit_in_bytes");
      if (!first && !std::filesystem::exists(std::string(root) + "/cgroup.subtree_control"))
        continue;
      folder_ = std::filesystem::path(root) / ("keyagent-test-" + std::to_string(::getpid()));
      std::error_code refused;
      std::filesystem::create_directory(folder_, refused);
      if (refused) continue;
      usable_ = put(first ? "memory.limit_in_bytes" : "memory.max", std::to_string(bytes));
      put(first ? "memory.swappiness" : "memory.swap.max", "0");
      if (usable_) return;
      ::rmdir(folder_.c_str());
    }
  }
  ~MemoryGroup() { ::rmdir(folder_.c_str()); }
  MemoryGroup(const MemoryGroup&) = delete;
  bool usable() const { return usable_; }
  bool take(pid_t pid) const { return put("cgroup.procs", std::to_string(pid)); }

 private:
  bool put(const char* file, const std::string& value) const {
    std::ofstream out(folder_ / file);
    out << value << std::flush;
    return out.good();
  }
  std::filesystem::path folder_;
  bool usable_ = false;
};

TEST(Confinement, Fault049_Fault083_AnOutOfMemoryKillLosesNoKeyAndTheRekeyResumes) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.start();
  const auto old = agent.create("data", "sign", "ec-p256");
  const MemoryGroup group((kibibytes_of(agent.pid(), "VmRSS") + 64 * 1024) * 1024);
  if (!group.usable()) GTEST_SKIP() << "this container has no memory cgroup to write to";
  ASSERT_TRUE(group.take(agent.pid()));
  agent.set_faults("C_Sign:every=1:leak=8388608");
  auto connection = agent.client();
  wire::Request rekey;
  rekey.mutable_rekey()->set_name("data");
  try {
    connection.call(rekey);
    for (int i = 0; i < 1000 && !agent.ended(); ++i)
      connection.call(AgentProcess::sign_request("data"));
  } catch (const Error&) {
    // It is dead.
  }
  ASSERT_EQ(agent.wait(), 128 + SIGKILL) << agent.story();
  agent.set_faults("");
  agent.start();
  auto again = agent.client();
  EXPECT_TRUE(again.call(AgentProcess::sign_request("data")).has_sign());
  wire::Request status;
  status.mutable_rekey_status()->set_all(true);
  EXPECT_TRUE(wait_until([&] {
    const auto reply = again.call(status).rekey_status();
    return reply.rekeys_size() == 1 &&
           (reply.rekeys(0).step() == "draining" || reply.rekeys(0).step() == "destroyed");
  })) << again.call(status).ShortDebugString();
  EXPECT_NE(again.call(AgentProcess::sign_request("data")).sign().kid(), old.kid());
  wire::Request verify;
  verify.mutable_audit_verify();
  EXPECT_TRUE(again.call(verify).audit_verify().ok());
}

}  // namespace
}  // namespace keyagent::test
