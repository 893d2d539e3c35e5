// SPDX-License-Identifier: Apache-2.0
// The operator's program that confirms a new key.

#include "agent/daemon/hook.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "tests/support/temp_folder.h"

namespace keyagent::daemon {
namespace {

using keys::Confirmation;
using testing::HasSubstr;

class HookTest : public ::testing::Test {
 protected:
  Confirmation::Said ask(const std::string& script, Confirmation::Phase phase,
                         std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    const auto program = folder_.path() / "hook";
    std::ofstream(program) << "#!/bin/sh\n" << script;
    std::filesystem::permissions(program, std::filesystem::perms(0755));
    keys::RekeyRecord rekey;
    rekey.name = KeyName("backup");
    keys::KeyRecord old, fresh;
    old.kid = Kid(to_base64url(random_bytes(32)));
    fresh.kid = Kid(to_base64url(random_bytes(32)));
    fresh.purpose = Purpose::kStorage;
    fresh.algorithm = KeyAlgorithm::kAes256;
    return HookConfirmation(program, patience).ask(phase, rekey, old, fresh);
  }
  test::TempFolder folder_;
};

TEST_F(HookTest, ItsExitStatusIsTheAnswer) {
  using Answer = Confirmation::Answer;
  const auto prove = Confirmation::Phase::kProve;
  EXPECT_EQ(ask("exit 0\n", prove).answer, Answer::kConfirmed);
  EXPECT_EQ(ask("exit 75\n", prove).answer, Answer::kLater);
  EXPECT_EQ(ask("exit 1\n", prove).answer, Answer::kRefused);
  EXPECT_EQ(ask("kill -9 $$\n", prove).answer, Answer::kLater);
}

TEST_F(HookTest, ItGetsThePhaseOnStandardInputAndNoArguments) {
  const auto said = ask("[ $# = 0 ] && grep -q '\"phase\":\"switched\"' && echo fine\n",
                        Confirmation::Phase::kSwitched);
  EXPECT_EQ(said.answer, Confirmation::Answer::kConfirmed);
  EXPECT_EQ(said.text, "fine");
}

TEST_F(HookTest, WhatItSaysIsOneEscapedLine) {
  const auto said =
      ask("printf 'no\\033[31m\\nsecond line\\n' >&2; exit 3\n", Confirmation::Phase::kProve);
  EXPECT_THAT(said.text, HasSubstr("no\\u001b[31m"));
  EXPECT_THAT(said.text, testing::Not(HasSubstr("second")));
}

TEST_F(HookTest, OneThatHangsIsKilledWithItsChildrenAndAskedAgain) {
  const auto said =
      ask("sleep 1000 & sleep 1000\n", Confirmation::Phase::kProve, std::chrono::milliseconds(200));
  EXPECT_EQ(said.answer, Confirmation::Answer::kLater);
}

TEST_F(HookTest, Fault036_ItInheritsNoFileAndNoEnvironment) {
  ::setenv("KEYAGENT_CANARY", "leaked", 1);
  const int open_file = ::open("/dev/null", O_RDONLY);
  const auto said = ask(
      "[ -z \"$KEYAGENT_CANARY\" ] || { echo environment; exit 1; }\n"
      "for fd in /proc/$$/fd/*; do [ \"$(readlink $fd)\" != /dev/null ] || [ ${fd##*/} -le 2 ] || "
      "{ echo \"$fd\"; exit 1; }; done\n",
      Confirmation::Phase::kProve);
  ::close(open_file);
  ::unsetenv("KEYAGENT_CANARY");
  EXPECT_EQ(said.answer, Confirmation::Answer::kConfirmed) << said.text;
}

TEST_F(HookTest, MissingHookIsAPeerFault) {
  keys::RekeyRecord rekey;
  rekey.name = KeyName("backup");
  try {
    HookConfirmation(folder_.path() / "absent")
        .ask(Confirmation::Phase::kProve, rekey, keys::KeyRecord{}, keys::KeyRecord{});
    FAIL() << "ran";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kPeer);
    EXPECT_THAT(error.what(), HasSubstr("absent"));
  }
}

}  // namespace
}  // namespace keyagent::daemon
