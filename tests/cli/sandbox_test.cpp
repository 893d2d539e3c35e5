// SPDX-License-Identifier: Apache-2.0
// keyagent sandbox with real commands on real tokens, and what is left of it afterwards.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include "tests/support/command.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

std::string text_in(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool becomes(const std::function<bool()>& condition) {
  for (int i = 0; i < 2400; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  return false;
}

// A folder for the sandboxes of one test, another one for what the commands write.
class SandboxTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text, mode_t mode = 0644) const {
    std::ofstream(file(name), std::ios::binary) << text;
    fs::permissions(file(name), static_cast<fs::perms>(mode));
  }
  fs::path file(const std::string& name) const { return work_.path() / name; }
  std::string read(const std::string& name) const { return text_in(file(name)); }
  // The line of a shell that runs a sandbox in the work folder; `keyagent` is the one of this
  // build.
  std::string line(const std::string& arguments, const std::string& how = {}) const {
    fs::create_directories(file("bin"));
    std::error_code there;
    fs::create_symlink(KEYAGENT, file("bin/keyagent"), there);
    return "cd '" + work_.path().string() + "' && export TMPDIR='" + temp_.path().string() +
           "' PATH='" + file("bin").string() + "':$PATH && unset KEYAGENT_SOCKET SSH_AUTH_SOCK" +
           " OPENSSL_CONF && " + how + before_ + " keyagent sandbox " + arguments;
  }
  // Standard output and error together.
  CommandResult run(const std::string& arguments) const {
    return try_command("{ " + line(arguments) + "; } 2>&1");
  }
  std::string ran(const std::string& arguments) const {
    const auto result = run(arguments);
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.output;
    return result.output;
  }
  // No folder, and no process that was started with it: agent, remover or command.
  std::string left_over() const {
    std::string found;
    for (const auto& each : fs::directory_iterator(temp_.path()))
      found += each.path().string() + "\n";
    return found +
           try_command("grep -lzs '^TMPDIR=" + temp_.path().string() + "$' /proc/[0-9]*/environ")
               .output;
  }
  void expect_clean() const { EXPECT_EQ(left_over(), ""); }

  std::string before_;
  TempFolder temp_, work_;
};

TEST_F(SandboxTest, ACommandSignsAndOpensAndNothingIsLeft) {
  write("release.txt", "release 1");
  ran("--key releases=sign --key credentials=transport -- sh -ec '"
      "keyagent sign release.txt --key releases -o release.sig\n"
      "keyagent key public releases >releases.pem\n"
      "printf secret | keyagent seal - --key credentials -o secret.jwe\n"
      "keyagent open secret.jwe >opened\n"
      "keyagent key create more --purpose storage >created\n"
      "printf %s \"$KEYAGENT_SOCKET\" >socket'");
  EXPECT_EQ(try_command("cd " + work_.path().string() +
                        " && openssl dgst -sha256 -verify releases.pem -signature release.sig "
                        "release.txt 2>&1")
                .status,
            0);
  EXPECT_EQ(read("opened"), "secret");
  EXPECT_THAT(read("socket"), testing::StartsWith(temp_.path().string() + "/keyagent-sandbox-"));
  expect_clean();
}

TEST_F(SandboxTest, TheExitStatusIsThatOfTheCommand) {
  EXPECT_EQ(run("-- true").status, 0);
  EXPECT_EQ(run("-- sh -c 'exit 7'").status, 7);
  EXPECT_EQ(run("-- sh -c 'kill -TERM $$'").status, 143);
  const auto missing = run("-- no-such-program --json");
  EXPECT_EQ(missing.status, 127);
  EXPECT_THAT(missing.output, HasSubstr("no-such-program: not found"));
  write("text", "no program");
  const auto text = run("-- ./text");
  EXPECT_EQ(text.status, 126);
  EXPECT_THAT(text.output, HasSubstr("./text: cannot be executed"));
  write("broken", "#!/no/such/interpreter\n", 0755);
  EXPECT_EQ(run("-- ./broken").status, 126);
  expect_clean();
}

TEST_F(SandboxTest, WordsOfTheCommandAreNotOptionsOfThisProgram) {
  EXPECT_EQ(ran("-- printf '<%s>' '[a,b]' --json --key x -- '' '{c}'"),
            "<[a,b]><--json><--key><x><--><><{c}>");
}

TEST_F(SandboxTest, UsageErrorsNameTheFix) {
  const auto expect = [&](const std::string& arguments, int status, const std::string& text) {
    const auto result = run(arguments);
    EXPECT_EQ(result.status, status) << arguments;
    EXPECT_THAT(result.output, HasSubstr(text)) << arguments;
  };
  expect("", 2, "keyagent sandbox [OPTION…] -- COMMAND");
  expect("--", 2, "keyagent sandbox [OPTION…] -- COMMAND");
  expect("make test", 2, "put -- before the command: keyagent sandbox -- make");
  expect("--kay sign -- true", 2, "unknown option --kay");
  expect("--key =sign -- true", 2, "expected [NAME=]PURPOSE[:ALGORITHM]");
  expect("--key sing -- true", 2, "sing");
  expect("--policy no-such-file -- true", 2, "no-such-file");
  expect_clean();
}

TEST_F(SandboxTest, MissingSoftHsmIsReportedWithItsPackage) {
  std::string profile = text_in(KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml");
  for (auto at = profile.find("libsofthsm2"); at != profile.npos; at = profile.find("libsofthsm2"))
    profile.replace(at, 11, "missing");
  fs::create_directory(file("profile"));
  write("profile/softhsm2.yml", profile);
  const auto result = run("--profile ./profile/softhsm2.yml -- touch ran");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.output, HasSubstr("SoftHSM2 is not installed"));
  EXPECT_THAT(result.output, HasSubstr("apt-get install softhsm2"));
  EXPECT_FALSE(fs::exists(file("ran")));
  expect_clean();
}

// The user of the sandbox could read the file of the PIN, but no list of processes shows it.
TEST_F(SandboxTest, R1_NeitherArgumentsNorVariablesHaveThePin) {
  ran("-- sh -c 'state=${KEYAGENT_SOCKET%/run/*}/state; cp $state/pin $state/so-pin .; env >env; "
      "cat /proc/[0-9]*/cmdline >lines 2>/dev/null; cat /proc/$PPID/environ >>env'");
  const std::string pin = read("pin"), so_pin = read("so-pin");
  ASSERT_EQ(pin.size(), 24U);
  ASSERT_EQ(so_pin.size(), 24U);
  EXPECT_THAT(read("env"), HasSubstr("KEYAGENT_SOCKET="));
  EXPECT_THAT(read("lines"), HasSubstr("keyagentd"));
  for (const auto& each : {pin, so_pin}) {
    EXPECT_THAT(read("env"), Not(HasSubstr(each)));
    EXPECT_THAT(read("lines"), Not(HasSubstr(each)));
  }
}

TEST_F(SandboxTest, SshAndOpensslFindTheKeys) {
  write("file", "release 1");
  ran("--key deploy=sign:ed25519 --key releases=sign -- sh -ec '"
      "test -z \"$SSH_AGENT_PID\"; ssh-add -L >listed\n"
      "openssl dgst -sha256 -sign keyagent:releases -out sig file\n"
      "keyagent key public releases >pub.pem\n"
      "openssl dgst -sha256 -verify pub.pem -signature sig file\n"
      "openssl req -new -key keyagent:releases -subj /CN=ci -out ci.csr\n"  // [req] of the host
      "openssl req -verify -in ci.csr -noout'");
  EXPECT_THAT(read("listed"), HasSubstr("ssh-ed25519 "));
  EXPECT_THAT(read("listed"), HasSubstr(" deploy\n"));
}

// What the host's configuration activates stays active.
TEST_F(SandboxTest, TheHostsConfigurationOfOpensslIsExtended) {
  write("host.cnf",
        "openssl_conf = mine\n[mine]\nproviders = many\nssl_conf = ssl\n[many]\ndefault = "
        "soft\nlegacy = old\n[soft]\nactivate = 1\n[old]\nactivate = 1\n[ssl]\nsystem_default = "
        "tls\n[tls]\nMinProtocol = TLSv1.3\n[last]\nname = value\n");
  before_ = "OPENSSL_CONF=" + file("host.cnf").string();
  const auto providers = ran("--key releases=sign -- openssl list -providers");
  for (const char* name : {"default", "legacy", "keyagent"})
    EXPECT_THAT(providers, HasSubstr("  " + std::string(name) + "\n")) << providers;
  write("host.cnf", "[req]\nnot a line of OpenSSL\n");
  const auto refused = run("-- touch ran");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.output, HasSubstr(file("host.cnf").string() + ", line 2"));
  EXPECT_FALSE(fs::exists(file("ran")));
  expect_clean();
}

TEST_F(SandboxTest, APolicyOfTheProjectDecides) {
  const std::string user = std::to_string(::geteuid());
  write("policy.yml",
        "rules:\n  - name: signs-releases\n    allow: [public, sign]\n    keys: "
        "[releases]\n    who: {user: [\"" +
            user + "\"]}\n",
        0664);
  const std::string keys = "--key releases=sign --key other=sign --policy policy.yml ";
  write("file", "x");
  ran(keys + "-- keyagent sign file --key releases -o sig");
  const auto refused = run(keys + "-- keyagent sign file --key other -o sig");
  EXPECT_EQ(refused.status, 3) << refused.output;
  write("policy.yml", "rules:\n  - name: wrong\n    allow: [sing]\n    who: {anyone: true}\n");
  const auto wrong = run(keys + "-- touch ran");
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.output, HasSubstr("policy.yml:3"));
  EXPECT_THAT(wrong.output, Not(HasSubstr(temp_.path().string())));
  EXPECT_FALSE(fs::exists(file("ran")));
  expect_clean();
}

// A sandbox that runs in the background until it is ended.
class RunningSandbox {
 public:
  explicit RunningSandbox(const std::string& line) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);
      ::execl("/bin/bash", "bash", "-c", line.c_str(), nullptr);
      ::_exit(99);
    }
  }
  ~RunningSandbox() {
    if (pid_ > 0) end(SIGKILL);
  }
  int end(int signal) {
    ::kill(pid_, signal);
    return wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
};

TEST_F(SandboxTest, SignalsEndTheCommandAndEverythingIsRemoved) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    fs::remove(file("ready"));
    RunningSandbox sandbox(line("-- sh -c 'echo $$ >ready; exec sleep 120'", "exec"));
    ASSERT_TRUE(becomes([&] { return !read("ready").empty(); }));
    const pid_t command = std::stoi(read("ready"));
    EXPECT_EQ(sandbox.end(signal), 128 + signal);
    EXPECT_NE(::kill(command, 0), 0);
    expect_clean();
  }
}

// The command decides: it may clean up, and its exit status counts.
TEST_F(SandboxTest, ACommandThatHandlesASignalDecidesTheExitStatus) {
  RunningSandbox sandbox(
      line("-- bash -c 'trap \"keyagent status >status; exit 5\" TERM; echo $$ >ready; "
           "while :; do sleep 0.1; done'",
           "exec"));
  ASSERT_TRUE(becomes([&] { return !read("ready").empty(); }));
  EXPECT_EQ(sandbox.end(SIGTERM), 5);
  EXPECT_FALSE(read("status").empty()) << "the agent must serve until the command has ended";
  expect_clean();
}

TEST_F(SandboxTest, AKilledSandboxLeavesNothing) {
  RunningSandbox sandbox(line("-- sh -c 'echo $$ >ready; exec sleep 120'", "exec"));
  ASSERT_TRUE(becomes([&] { return !read("ready").empty(); }));
  const pid_t command = std::stoi(read("ready"));
  EXPECT_EQ(sandbox.end(SIGKILL), 128 + SIGKILL);
  EXPECT_TRUE(becomes([&] { return left_over().empty() && ::kill(command, 0) != 0; }));
}

TEST_F(SandboxTest, WhatTheCommandLeavesBehindIsEnded) {
  EXPECT_EQ(run("-- sh -c 'setsid sh -c \"trap : TERM; echo \\$\\$ >left; for i in \\$(seq 600); "
                "do sleep 0.1; done\" "
                ">/dev/null 2>&1 & while [ ! -s left ]; do sleep 0.1; done; exit 3'")
                .status,
            3);
  EXPECT_NE(::kill(std::stoi(read("left")), 0), 0);
  expect_clean();
}

TEST_F(SandboxTest, AnAgentThatEndsIsReported) {
  const auto result =
      run("-- sh -c 'pkill -KILL -f \"${KEYAGENT_SOCKET%/run/*}/state/keyagentd.yml\"; "
          "while keyagent --quiet status 2>/dev/null; do sleep 0.1; done; exit 0'");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("agent ended before the command did"));
  expect_clean();
}

TEST_F(SandboxTest, AFolderThatOthersCouldChangeIsRefused) {
  fs::permissions(temp_.path(), fs::perms(0777));
  const auto result = run("-- touch ran");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.output, HasSubstr("may be written by others"));
  EXPECT_THAT(result.output, HasSubstr("TMPDIR"));
  EXPECT_FALSE(fs::exists(file("ran")));
  expect_clean();
}

// keyagent setup runs them as root.
TEST_F(SandboxTest, Fault162_ProgramsThatOthersCouldChangeAreNotRun) {
  fs::create_directory(file("installed"));
  fs::copy_file(KEYAGENT, file("installed/keyagent"));
  write("installed/keyagent-provision-token", "#!/bin/sh\ntouch " + file("ran").string() + "\n",
        0777);
  const auto result = try_command("TMPDIR=" + temp_.path().string() + " " +
                                  file("installed/keyagent").string() + " sandbox -- true 2>&1");
  EXPECT_EQ(result.status, 2) << result.output;
  EXPECT_THAT(result.output, HasSubstr("may be written by others"));
  EXPECT_THAT(result.output, HasSubstr(file("installed/keyagent-provision-token").string()));
  EXPECT_FALSE(fs::exists(file("ran")));
  expect_clean();
}

TEST_F(SandboxTest, AnOrdinaryUserNeedsNothingElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "all other tests run as an ordinary user already";
  const std::string as = "setpriv --reuid 61191 --regid 61191 --clear-groups ";
  if (try_command(as + "test -x " KEYAGENT " && " + as +
                  "test -r " KEYAGENT_SOURCE "/scripts/provision-token")
          .status != 0)
    GTEST_SKIP() << "this build is in a folder that other users cannot enter";
  for (const auto* each : {&temp_, &work_})
    ASSERT_EQ(::chown(each->path().c_str(), 61191, 61191), 0);
  before_ = as;
  EXPECT_EQ(ran("--key releases=sign -- sh -ec 'id -u; printf x | keyagent sign - --key releases "
                ">sig'"),
            "61191\n");
  expect_clean();
}

// The lines that README.md gives for CI systems, as those run them; only the installation is left
// out.
TEST_F(SandboxTest, TheRecipesForCiWork) {
  write("lines.py", R"(import json, re, sys, yaml
text = open(sys.argv[1]).read()
part = text[text.index('## In CI'):text.index('## Features')]
for block in re.findall(r'```yaml\n(.*?)```', part, re.S):
    for job in (yaml.safe_load(block).get('jobs') or yaml.safe_load(block)).values():
        steps = [step['run'] for step in job.get('steps', []) if 'run' in step]
        for line in steps + job.get('before_script', []) + job.get('script', []):
            print(json.dumps(line))
)");
  std::istringstream lines(
      run_command("python3 " + file("lines.py").string() + " " KEYAGENT_SOURCE "/README.md"));
  fs::create_directory(file("bin"));
  write("bin/apt-get", "#!/bin/sh\necho \"$@\" >>installed\n", 0755);
  fs::copy_file(KEYAGENT_SOURCE "/README.md", file("README.md"));
  int sandboxes = 0;
  for (std::string each; std::getline(lines, each); ++sandboxes) {
    write("line", nlohmann::json::parse(each).get<std::string>());
    // `line` makes bin/keyagent; what follows the semicolon runs with the same variables.
    const auto result = try_command("{ " + line("-- true") + "; sh -e line; } 2>&1");
    EXPECT_EQ(result.status, 0) << each << "\n" << result.output;
  }
  EXPECT_EQ(sandboxes, 5);
  EXPECT_THAT(read("installed"), HasSubstr("softhsm2"));
  EXPECT_TRUE(fs::exists(file("README.sig")));
  EXPECT_TRUE(fs::exists(file("web.csr")));
  expect_clean();
}

}  // namespace
}  // namespace keyagent::test
