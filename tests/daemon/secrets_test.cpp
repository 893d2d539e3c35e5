// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/sanitized.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kPlaintext = "credential-canary-81516";

// Everything that root can read of the process's writable memory.
std::string memory_of(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::ifstream memory("/proc/" + std::to_string(pid) + "/mem", std::ios::binary);
  std::string all, line;
  while (std::getline(maps, line)) {
    unsigned long begin = 0, end = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode) != 3 || mode[1] != 'w')
      continue;
    std::string part(end - begin, '\0');
    memory.clear();
    memory.seekg(static_cast<std::streamoff>(begin));
    memory.read(part.data(), static_cast<std::streamsize>(part.size()));
    all.append(part.data(), static_cast<std::size_t>(memory.gcount()));
  }
  return all;
}

std::string seal_to(const wire::Key& key, const std::string& text) {
  PublicKeyInfo info;
  info.kid = Kid(key.kid());
  info.name = key.name();
  info.algorithm = *key_algorithm_of(key.algorithm());
  info.purpose = Purpose::kTransport;
  info.envelope = *envelope_algorithm_of(key.envelope());
  info.spki.assign(key.spki().begin(), key.spki().end());
  const auto sealed = envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(text.begin(), text.end()));
  return std::string(as_text(sealed));
}

TEST(DaemonSecrets, Fault117_PinAndPlaintextAreNotInMemoryAfterUse) {
  if (::geteuid() != 0) GTEST_SKIP() << "reading another process's memory needs root";
  AgentProcess agent;
  agent.start();
  const auto key = agent.create("backup-1", "transport", "rsa-2048");
  wire::Request open;
  open.mutable_open()->set_envelope(seal_to(key, kPlaintext));
  auto connection = agent.client();
  EXPECT_EQ(connection.call(open).open().plaintext(), kPlaintext);
  ASSERT_TRUE(connection.call(AgentProcess::status_request()).has_status());
  std::string memory;
  // A thread wipes its frame after the answer has left.
  wait_until([&] {
    memory = memory_of(agent.pid());
    return memory.find(kPlaintext) == std::string::npos;
  });
  ASSERT_THAT(memory.size(), testing::Gt(100000u));
  ASSERT_NE(memory.find("agent.sock"), std::string::npos) << "the scan sees the heap";
  EXPECT_EQ(memory.find(kPlaintext), std::string::npos);
  EXPECT_EQ(memory.find(agent.hsm.pin()), std::string::npos);
}

TEST(DaemonSecrets, Fault117_MemoryIsLockedWhereTheUnitAllowsIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "raising the limit of locked memory needs root";
  const auto lift_limit = [] {
    const rlimit endless{RLIM_INFINITY, RLIM_INFINITY};
    return ::setrlimit(RLIMIT_MEMLOCK, &endless) == 0 ? 0 : 1;
  };
  if (is_sanitized()) GTEST_SKIP() << "the sanitizer's mlockall() does nothing";
  if (as_user(0, lift_limit) != 0)
    GTEST_SKIP() << "this container's root may not lift RLIMIT_MEMLOCK";
  AgentProcess agent;
  agent.enter_sandbox = [&] {
    if (lift_limit() != 0) ::_exit(98);
  };
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  const auto status = read_text("/proc/" + std::to_string(agent.pid()) + "/status");
  const auto field = [&](const std::string& name) {
    return std::stoul(status.substr(status.find(name + ":") + name.size() + 1));
  };
  EXPECT_GE(field("VmLck"), field("VmRSS") / 2) << status;
}

TEST(DaemonSecrets, Fault116_NoCoreDumpAndNoTracerOfTheSameUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  AgentProcess agent;
  agent.start();
  const auto process = "/proc/" + std::to_string(agent.pid());
  EXPECT_THAT(read_text(process + "/limits"), testing::ContainsRegex("Max core file size +0 +0"));
  EXPECT_EQ(as_user(AgentProcess::kUser,
                    [&] { return ::open((process + "/mem").c_str(), O_RDONLY) < 0 ? 0 : 1; }),
            0);
  const auto pid = agent.pid();
  EXPECT_EQ(as_user(AgentProcess::kUser,
                    [&] { return ::ptrace(PTRACE_ATTACH, pid, nullptr, nullptr) < 0 ? 0 : 1; }),
            0);
  // Control: a process of that user that did nothing about it.
  EXPECT_EQ(as_user(AgentProcess::kUser,
                    [] {
                      ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
                      const pid_t other = ::fork();
                      if (other == 0) {
                        ::pause();
                        ::_exit(0);
                      }
                      const long attached = ::ptrace(PTRACE_ATTACH, other, nullptr, nullptr);
                      ::kill(other, SIGKILL);
                      return attached == 0 ? 0 : 1;
                    }),
            0);
  agent.signal(SIGSEGV);
  EXPECT_TRUE(is_crash(agent.wait()));
  EXPECT_FALSE(agent.dumped_core());
}

TEST(DaemonSecrets, Fault120_PinIsNeitherInEnvironmentNorArguments) {
  AgentProcess agent;
  agent.start();
  const auto process = "/proc/" + std::to_string(agent.pid());
  EXPECT_THAT(read_text(process + "/cmdline"), Not(HasSubstr(agent.hsm.pin())));
  if (::geteuid() != 0) GTEST_SKIP() << "reading /proc/PID/environ needs root";
  EXPECT_THAT(read_text(process + "/environ"), Not(HasSubstr(agent.hsm.pin())));
}

TEST(DaemonSecrets, Fault121_PinAndPlaintextAreInNoFileThatTheAgentWrites) {
  AgentProcess agent;
  agent.shimmed = true;
  agent.extra = "log:\n  level: debug\n";
  agent.start();
  const auto key = agent.create("backup-1", "transport", "rsa-2048");
  wire::Request open;
  open.mutable_open()->set_envelope(seal_to(key, kPlaintext));
  auto connection = agent.client();
  connection.call(open);
  for (const char* faults :
       {"C_Decrypt:n=1:rv=0x5", "C_DecryptInit:n=1:rv=0x101; C_Login:n=1:rv=0x30",
        "C_DecryptInit:n=1:rv=0x30; C_Login:n=1:rv=0xa0"}) {
    agent.set_faults(faults);
    try {
      connection.call(open);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), Not(HasSubstr(agent.hsm.pin())));
    }
  }
  agent.stop();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(agent.folder())) {
    if (!entry.is_regular_file() || entry.path().filename() == "pin") continue;
    const auto text = read_text(entry.path());
    EXPECT_EQ(text.find(agent.hsm.pin()), std::string::npos) << entry.path();
    EXPECT_EQ(text.find(kPlaintext), std::string::npos) << entry.path();
  }
}

TEST(DaemonSecrets, Fault123_EnvironmentThatSteersLibrariesIsLeftBehind) {
  AgentProcess agent;
  agent.start({"LD_PRELOAD=libm.so.6", "OPENSSL_CONF=/nonexistent/openssl.cnf",
               "OPENSSL_MODULES=/nonexistent", "SOFTHSM2_CONF=/nonexistent/softhsm2.conf",
               "HOME=/nonexistent", "LANG=C"});
  ASSERT_TRUE(agent.serving()) << read_text(agent.log());
  auto connection = agent.client();
  EXPECT_EQ(connection.call(AgentProcess::status_request()).status().token().state(), "up");
  if (::geteuid() != 0) GTEST_SKIP() << "reading /proc/PID/environ needs root";
  const auto environment = read_text("/proc/" + std::to_string(agent.pid()) + "/environ");
  EXPECT_THAT(environment, Not(HasSubstr("LD_PRELOAD")));
  EXPECT_THAT(environment, HasSubstr("LANG=C"));
}

// The file that OpenSSL reads without being told of it activates a provider: ours would be loaded
// into the process that its keys come from.
TEST(DaemonSecrets, Fault124_TheSystemsOpensslConfigurationLoadsNoProviderIntoTheAgent) {
  if (::geteuid() != 0) GTEST_SKIP() << "another file at a system path needs root";
  if (!mounts_can_be_private()) GTEST_SKIP() << "this chroot cannot make mounts private";
  const std::filesystem::path system = "/etc/ssl/openssl.cnf";
  if (!std::filesystem::exists(system)) GTEST_SKIP() << system << " is not there";
  AgentProcess agent;
  agent.write("openssl.cnf",
              "openssl_conf = init\n[init]\nproviders = all\n[all]\ndefault = on\nlegacy = "
              "on\n[on]\nactivate = 1\n",
              0644);
  const auto ours = (agent.folder() / "openssl.cnf").string();
  const auto control = try_command("unshare -m sh -c \"mount --bind '" + ours + "' " +
                                   system.string() + " && openssl list -providers\" 2>&1");
  ASSERT_THAT(control.output, HasSubstr("legacy")) << "the file is not the one that is read";
  agent.enter_sandbox = [&] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount(ours.c_str(), system.c_str(), nullptr, MS_BIND, nullptr) != 0)
      ::_exit(98);
  };
  agent.start({"OPENSSL_CONF=" + ours});
  ASSERT_TRUE(agent.serving()) << agent.story();
  agent.create("data", "sign", "rsa-2048");
  EXPECT_THAT(read_text("/proc/" + std::to_string(agent.pid()) + "/maps"),
              Not(HasSubstr("legacy.so")));
}

}  // namespace
}  // namespace keyagent::test
