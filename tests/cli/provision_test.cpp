// SPDX-License-Identifier: Apache-2.0
// scripts/provision-token into folders of every kind (RELIABILITY 162, 175).

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tests/support/command.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
namespace fs = std::filesystem;

std::string contents_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A folder for provision-token: either the agent starts with what it wrote, or the folder is
// refused by name before anything is made.
class Provisioning : public ::testing::Test {
 protected:
  CommandResult provision(const fs::path& state, const std::string& more = {}) const {
    return try_command(std::string(KEYAGENT_SOURCE "/scripts/provision-token") + " --state '" +
                       state.string() + "' --label unusual --keyagent " KEYAGENT " " + more +
                       " 2>&1");
  }
  // Whether an agent with this configuration answers.
  bool serves(const fs::path& state) const {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string log = (folder_.path() / "log").string(),
                        config = (state / "keyagentd.yml").string();
      if (std::freopen(log.c_str(), "a", stderr) == nullptr) ::_exit(127);
      ::execl(KEYAGENTD, "keyagentd", "--config", config.c_str(), "--allow-root", nullptr);
      ::_exit(127);
    }
    bool answered = false, ended = false;
    for (int i = 0; i < 1200 && !answered && !ended; ++i) {
      answered = try_command(KEYAGENT " --socket '" + (state / "run/agent.sock").string() +
                             "' --quiet status >/dev/null 2>&1")
                     .status == 0;
      ended = ::waitpid(pid, nullptr, WNOHANG) == pid;
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
    if (ended) return false;
    ::kill(pid, SIGTERM);
    ::waitpid(pid, nullptr, 0);
    return answered;
  }
  void expect_refused(const fs::path& state, const std::string& why,
                      const std::string& more = {}) const {
    const auto result = provision(state, more);
    EXPECT_EQ(result.status, 2) << state << result.output;
    EXPECT_THAT(result.output, HasSubstr(why)) << state;
    EXPECT_FALSE(fs::exists(state)) << "something was made";
  }
  const TempFolder folder_;
};

TEST_F(Provisioning, Fault175_UnusualFoldersAreWrittenAsTheyAre) {
  for (const std::string name :
       {"with space", "x: y", "br{ace}", "comma,dir", "quo\"te", "back\\slash",
        "b\xc3\xbc"
        "cher",
        "- dash", "*star", "$HOME", "%25"}) {
    const auto state = folder_.path() / name;
    const auto made = provision(state, "--json");
    ASSERT_EQ(made.status, 0) << name << made.output;
    EXPECT_EQ(Json::parse(made.output.substr(made.output.find('{'))).at("state"), state.string());
    EXPECT_TRUE(serves(state)) << name << contents_of(folder_.path() / "log");
    EXPECT_THAT(provision(state).output, HasSubstr("nothing changed")) << name;
  }
}

TEST_F(Provisioning, Fault175_FoldersThatCannotWorkAreRefusedBeforeAnythingIsMade) {
  expect_refused(folder_.path() / std::string(110, 'd'), "the kernel takes 107");
  expect_refused(folder_.path() / "a #b", "--state: SoftHSM2 cannot");
  expect_refused(folder_.path() / "line\nend", "--state holds a control character");
  expect_refused(folder_.path() / "tab\tbed", "--state holds a control character");
  expect_refused(folder_.path() / "latin\xfc", "--state is not UTF-8");
  expect_refused(folder_.path() / "state", "a user holds a control character",
                 "--allow-open \"$(printf 'a\\tb'):key\"");
}

TEST_F(Provisioning, Fault162_FoldersOfOthersAreRefusedBeforeAnythingIsMade) {
  const auto above = folder_.path() / "above";
  fs::create_directory(above);
  fs::permissions(above, fs::perms(0777));
  expect_refused(above / "state", "chmod go-w " + above.string());
  fs::permissions(above, fs::perms(0755));
  if (::geteuid() != 0) return;
  ASSERT_EQ(::chown(above.c_str(), 65534, 65534), 0);
  expect_refused(above / "state", "chown root " + above.string());
}

}  // namespace
}  // namespace keyagent::test
