#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// The units as installed, beside a program that exists.
class UnitFiles : public testing::Test {
 protected:
  void SetUp() override {
    if (try_command("systemd-analyze --version 2>&1").status != 0)
      GTEST_SKIP() << "systemd-analyze is not installed";
    put("keyagentd@.service", "@KEYAGENTD@", "keyagentd@mail.service");
    put("keyagent-worker.service", "@KEYAGENT@", "keyagent-worker.service");
    std::filesystem::copy_file(KEYAGENT_SYSTEMD "/keyagentd@.socket",
                               folder_.path() / "keyagentd@mail.socket");
  }
  void put(const char* from, const std::string& program, const char* to) {
    auto unit = read_text(std::string(KEYAGENT_SYSTEMD "/") + from);
    for (auto at = unit.find(program); at != unit.npos; at = unit.find(program))
      unit.replace(at, program.size(), KEYAGENTD);
    std::ofstream(folder_.path() / to) << unit;
  }
  std::string run(const std::string& command) {
    return try_command("cd '" + folder_.path().string() + "' && systemd-analyze " + command +
                       " 2>&1")
        .output;
  }
  TempFolder folder_;
};

TEST_F(UnitFiles, T11_AreUnderstoodBySystemd) {
  const auto said =
      run("verify --man=no ./keyagentd@mail.service ./keyagentd@mail.socket "
          "./keyagent-worker.service");
  EXPECT_THAT(said, Not(HasSubstr("keyagentd@mail")));
  EXPECT_THAT(said, Not(HasSubstr("keyagent-worker")));
}

TEST_F(UnitFiles, T11_ExposeAtMostOnePointTwo) {
  for (const char* unit : {"keyagentd@mail.service", "keyagent-worker.service"}) {
    const auto said = run("security --offline=true --threshold=12 ./" + std::string(unit));
    const auto at = said.find("Overall exposure level");
    ASSERT_NE(at, said.npos) << said;
    const auto number = said.find(": ", at);
    EXPECT_LE(std::atof(said.c_str() + number + 2), 1.2) << said;
    EXPECT_GT(std::atof(said.c_str() + number + 2), 0.0) << said;
  }
}

TEST_F(UnitFiles, KeepTheCallersUidsApart) {
  const auto unit = read_text(KEYAGENT_SYSTEMD "/keyagentd@.service");
  EXPECT_THAT(unit, Not(HasSubstr("\nPrivateUsers=yes")));
}

}  // namespace
}  // namespace keyagent::test
