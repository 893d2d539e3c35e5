// SPDX-License-Identifier: Apache-2.0
// keyagent setup, as far as it goes without systemd: the units are in scripts/debian/tests.

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "tests/support/command.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

// An agent of this user: everything is in one folder.
class SetupTest : public ::testing::Test {
 protected:
  fs::path state() const { return folder_.path() / "state"; }
  std::string command(const std::string& arguments) const {
    return "unset SUDO_USER; " KEYAGENT " " + arguments;
  }
  CommandResult setup(const std::string& arguments, const std::string& input = "</dev/null") const {
    return try_command("{ " + command("setup --state '" + state().string() + "' " + arguments) +
                       "; } 2>&1 " + input);
  }
  // All files with their content; the ledger and the audit log have what each use adds.
  std::string provisioned() const {
    return run_command("cd '" + state().string() +
                       "' && sha256sum pin so-pin softhsm2.conf keyagentd.yml policy.yml");
  }
  CommandResult keyagent(const std::string& arguments) const {
    return try_command(KEYAGENT " --socket '" + (state() / "run/agent.sock").string() + "' " +
                       arguments + " 2>&1");
  }
  // The commands among what setup printed.
  static std::string commands_in(const std::string& output) {
    std::istringstream lines(output);
    std::string commands;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("  ")) commands += line.substr(2) + "\n";
    }
    return commands;
  }
  TempFolder folder_;
};

TEST_F(SetupTest, FromNothingToATestedAgentWhosePrintedStepsWork) {
  const auto done = setup("--yes --label dev");
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("created pin so-pin"));
  EXPECT_THAT(done.output, HasSubstr("self-test: passed"));
  EXPECT_EQ(run_command(KEYAGENT " config check " + (state() / "keyagentd.yml").string()),
            "no problems found\n");
  const auto commands = commands_in(done.output);
  EXPECT_THAT(commands, HasSubstr("keyagent key create releases"));
  const auto first = commands.find('\n');
  std::ofstream(folder_.path() / "steps")
      << "set -e\nPATH=" << fs::path(KEYAGENT).parent_path().string() << ":$PATH\n"
      << commands.substr(0, first) << " 2>/dev/null &\ntrap 'kill $!; wait' EXIT\n"
      << "until keyagent --socket " << (state() / "run/agent.sock").string()
      << " --quiet status 2>/dev/null; do sleep 0.1; done\n"
      << commands.substr(first + 1);
  const auto steps = try_command("bash " + (folder_.path() / "steps").string() + " 2>&1");
  EXPECT_EQ(steps.status, 0) << commands << "\n" << steps.output;
  EXPECT_THAT(steps.output, HasSubstr("created releases"));
}

TEST_F(SetupTest, ASecondRunChangesNothing) {
  ASSERT_EQ(setup("--yes --label dev").status, 0);
  const auto before = provisioned();
  const auto again = setup("--yes");  // the label is that of the folder
  EXPECT_EQ(again.status, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("agent dev: everything exists; nothing changed"));
  EXPECT_EQ(provisioned(), before);
  const auto json = setup("--yes --json");
  ASSERT_EQ(json.status, 0) << json.output;
  const auto parsed = nlohmann::json::parse(json.output);
  EXPECT_EQ(parsed.at("created"), false);
  EXPECT_EQ(parsed.at("tested"), true);
}

TEST_F(SetupTest, WithoutATerminalItPrintsTheCommandThatWorks) {
  const auto refused = setup("--label dev");
  EXPECT_EQ(refused.status, 3);
  EXPECT_FALSE(fs::exists(state()));
  const auto at = refused.output.find("run: ");
  ASSERT_NE(at, std::string::npos) << refused.output;
  const auto line = refused.output.substr(at + 5);
  EXPECT_THAT(line, testing::StartsWith("keyagent setup --yes --state "));
  EXPECT_THAT(line, HasSubstr(" --label dev --profile softhsm2 --owner "));
  const auto done = try_command("PATH=" + fs::path(KEYAGENT).parent_path().string() + ":$PATH; " +
                                line + " 2>&1");
  EXPECT_EQ(done.status, 0) << done.output;
}

// On a terminal, which script(1) makes.
TEST_F(SetupTest, OnATerminalItAsksAndChangesNothingWithoutAYes) {
  const auto answer = [&](const std::string& answers) {
    return try_command("printf '" + answers + "' | script -qec \"" +
                       command("setup --state '" + state().string() + "'") + "\" /dev/null 2>&1");
  };
  for (const char* answers : {"dev\\n\\n\\nno\\n", "dev\\n\\n\\n\\n", "dev\\n"}) {
    const auto refused = answer(std::string(answers) + "\\004");
    EXPECT_EQ(refused.status, 3) << refused.output;
    EXPECT_FALSE(fs::exists(state()));
  }
  const auto done = answer("dev\\n\\n\\nyes\\n");
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("Name of the agent"));
  EXPECT_THAT(done.output, HasSubstr("self-test: passed"));
}

TEST_F(SetupTest, WhatCannotWorkIsRefusedBeforeAnythingIsCreated) {
  const auto refuses = [&](const std::string& arguments, const std::string& why) {
    const auto result = setup("--yes " + arguments);
    EXPECT_EQ(result.status, 2) << arguments << result.output;
    EXPECT_THAT(result.output, HasSubstr(why));
    EXPECT_FALSE(fs::exists(state())) << arguments;
  };
  refuses("--label dev --owner no-such-user", "no user 'no-such-user'");
  refuses("--label UPPER", "--label must be 1 to 32 of a-z 0-9 . -");
  refuses("--label dev --profile no-such", "no profile 'no-such'");
  const auto profile = folder_.path() / "softhsm2.yml";
  run_command("sed s/libsofthsm2/missing/ " KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml >" +
              profile.string());
  refuses("--label dev --profile " + profile.string(), "apt-get install softhsm2");
}

TEST_F(SetupTest, AnAgentWithAnotherProfileIsNotChanged) {
  ASSERT_EQ(setup("--yes --label dev").status, 0);
  const auto before = provisioned();
  const auto other = folder_.path() / "other.yml";
  fs::copy_file(KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml", other);
  const auto refused = setup("--yes --profile " + other.string());
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.output, HasSubstr("exists with profile 'softhsm2'"));
  EXPECT_EQ(provisioned(), before);
}

TEST_F(SetupTest, AnAgentThatRunsIsTestedAndContinues) {
  ASSERT_EQ(setup("--yes --label dev").status, 0);
  const std::string socket = (state() / "run/agent.sock").string();
  const auto result = try_command(
      "{ " KEYAGENTD " --config '" + (state() / "keyagentd.yml").string() +
      "' --allow-root 2>/dev/null & pid=$!; until " KEYAGENT " --socket '" + socket +
      "' --quiet status 2>/dev/null; do sleep 0.1; done; " KEYAGENT " setup --yes --state '" +
      state().string() + "'; kill -0 $pid && echo runs; kill $pid; wait $pid; } 2>&1");
  EXPECT_THAT(result.output, HasSubstr("self-test: passed"));
  EXPECT_THAT(result.output, HasSubstr("runs"));
}

TEST_F(SetupTest, AUnitNeedsRoot) {
  const std::string as =
      ::geteuid() == 0 ? "setpriv --reuid 61191 --regid 61191 --clear-groups " : "";
  if (try_command(as + "test -x " KEYAGENT).status != 0)
    GTEST_SKIP() << "this build is in a folder that other users cannot enter";
  const auto refused = try_command(as + KEYAGENT " setup --yes --label dev 2>&1");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.output, HasSubstr("sudo keyagent setup"));
  EXPECT_THAT(refused.output, HasSubstr("keyagent setup --state FOLDER"));
}

// A host without systemd, in mounts that only this test sees: /etc, /var/lib and /run are copies.
TEST_F(SetupTest, AUnitOfAHostIsProvisionedForItsOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root sets up a unit";
  if (!mounts_can_be_private()) GTEST_SKIP() << "this chroot cannot make mounts private";
  if (try_command("setpriv --reuid 61191 --regid 61191 --clear-groups test -x " KEYAGENT).status !=
      0)
    GTEST_SKIP() << "this build is in a folder that other users cannot enter";
  const std::string script = R"(
mount --make-rprivate /
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
rm -rf /etc/keyagent
groupadd --system keyagent-users
useradd --system --user-group --home-dir /var/lib/keyagent --no-create-home keyagent
useradd --no-create-home alice
keyagent setup --yes --label host1 --owner alice
id -nG alice
stat -c '%U %a %n' /etc/keyagent/* /var/lib/keyagent/host1 /var/lib/keyagent/host1/pin
setpriv --reuid keyagent --regid keyagent --init-groups keyagent config check /etc/keyagent/host1.yml
keyagent setup --yes --owner alice
install -d -o keyagent /run/keyagent
setpriv --reuid keyagent --regid keyagent --init-groups keyagentd --config /etc/keyagent/host1.yml 2>/run/log &
trap 'kill $!; wait $!' EXIT
until [ -S /run/keyagent/host1.sock ]; do kill -0 $!; sleep 0.1; done
chgrp keyagent-users /run/keyagent/host1.sock
as_alice="setpriv --reuid alice --regid alice --init-groups"
until $as_alice keyagent --quiet status 2>/dev/null; do kill -0 $!; sleep 0.1; done
$as_alice keyagent setup --only-self-test
$as_alice keyagent --json key list --all | grep -c '"state": "destroyed"'
setpriv --reuid daemon --regid daemon --clear-groups keyagent setup --only-self-test && exit 9
echo refused
)";
  std::ofstream(folder_.path() / "script") << script;
  fs::permissions(folder_.path(), fs::perms(0755));
  const auto result = try_command(
      "PATH=" + fs::path(KEYAGENT).parent_path().string() + ":" +
      fs::path(KEYAGENTD).parent_path().string() + ":/usr/sbin:/sbin:$PATH unshare -m bash -e " +
      (folder_.path() / "script").string() + " " + folder_.path().string() + " 2>&1");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("agent host1: created pin so-pin"));
  EXPECT_THAT(result.output, HasSubstr("in a new session (alice joined keyagent-users)"));
  EXPECT_THAT(result.output, HasSubstr("alice keyagent-users\n"));
  EXPECT_THAT(result.output, HasSubstr("root 644 /etc/keyagent/host1-policy.yml\n"
                                       "root 644 /etc/keyagent/host1.yml\n"
                                       "keyagent 700 /var/lib/keyagent/host1\n"
                                       "keyagent 400 /var/lib/keyagent/host1/pin\n"));
  EXPECT_THAT(result.output, HasSubstr("no problems found"));
  EXPECT_THAT(result.output, HasSubstr("agent host1: everything exists; nothing changed"));
  EXPECT_THAT(result.output, HasSubstr("\n2\n")) << "the keys of the self-test";
  EXPECT_THAT(result.output, HasSubstr("\nrefused\n"));
}

}  // namespace
}  // namespace keyagent::test
