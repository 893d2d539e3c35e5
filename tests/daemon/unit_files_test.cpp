// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Unit {
  const char* title;
  double exposure;  // at most
  const char* folder;
  const char* file;
  const char* name;      // as it is started
  const char* variable;  // the program's place in it
  const char* socket;    // beside it; nullptr: none
};

void PrintTo(const Unit& unit, std::ostream* out) {
  *out << unit.file;
}

// A unit as installed, beside a program that exists.
class UnitFiles : public testing::TestWithParam<Unit> {
 protected:
  void SetUp() override {
    if (try_command("systemd-analyze --version 2>&1").status != 0)
      GTEST_SKIP() << "systemd-analyze is not installed";
    const std::string variable = GetParam().variable;
    auto unit = text();
    for (auto at = unit.find(variable); at != unit.npos; at = unit.find(variable))
      unit.replace(at, variable.size(), KEYAGENTD);
    std::ofstream(folder_.path() / GetParam().name) << unit;
    if (GetParam().socket == nullptr) return;
    std::filesystem::copy_file(std::filesystem::path(GetParam().folder) / GetParam().socket,
                               folder_.path() / "keyagentd@mail.socket");
  }
  static std::string text() {
    return read_text(std::filesystem::path(GetParam().folder) / GetParam().file);
  }
  std::string run(const std::string& command) {
    return try_command("cd '" + folder_.path().string() + "' && systemd-analyze " + command +
                       " ./" + GetParam().name + " 2>&1")
        .output;
  }
  TempFolder folder_;
};

TEST_P(UnitFiles, T11_AreUnderstoodBySystemd) {
  const auto said = run(GetParam().socket != nullptr ? "verify --man=no ./keyagentd@mail.socket"
                                                     : "verify --man=no");
  EXPECT_THAT(said, Not(HasSubstr(std::string(GetParam().name).substr(0, 9))));
}

TEST_P(UnitFiles, T11_ExposeLittle) {
  const auto said = run("security --offline=true --threshold=18");
  const auto at = said.find("Overall exposure level");
  ASSERT_NE(at, said.npos) << said;
  const auto number = said.find(": ", at);
  EXPECT_LE(std::atof(said.c_str() + number + 2), GetParam().exposure) << said;
  EXPECT_GT(std::atof(said.c_str() + number + 2), 0.0) << said;
}

TEST_P(UnitFiles, Fault083_BoundWhatTheyMayTakeFromTheHost) {
  for (const char* bound : {"\nLimitCORE=0\n", "\nMemoryMax=", "\nTasksMax="})
    EXPECT_THAT(text(), HasSubstr(bound));
}

TEST_P(UnitFiles, KeepTheCallersUidsApart) {
  EXPECT_THAT(text(), Not(HasSubstr("\nPrivateUsers=yes")));
}

INSTANTIATE_TEST_SUITE_P(
    All, UnitFiles,
    testing::Values(Unit{"Agent", 1.2, KEYAGENT_SYSTEMD, "keyagentd@.service",
                         "keyagentd@mail.service", "@KEYAGENTD@", "keyagentd@.socket"},
                    Unit{"Worker", 1.2, KEYAGENT_SYSTEMD, "keyagent-worker.service",
                         "keyagent-worker.service", "@KEYAGENT@", nullptr},
                    // It talks to the network.
                    Unit{"Instance", 1.8, KEYINSTANCED_SYSTEMD, "keyinstanced.service",
                         "keyinstanced.service", "@KEYINSTANCED@", nullptr}),
    [](const auto& unit) { return unit.param.title; });

}  // namespace
}  // namespace keyagent::test
