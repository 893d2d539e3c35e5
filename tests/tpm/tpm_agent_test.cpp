// SPDX-License-Identifier: Apache-2.0
// scripts/provision-token, keyagentd and keyagent on a TPM: what quickstart shows on SoftHSM.

#include "tests/tpm/tpm_agent.h"

#include <gmock/gmock.h>

#include <functional>

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;

bool wait_until(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  return true;
}

TEST_F(TpmAgent, R1_R4_TheWholeFlowOnATpm) {
  EXPECT_THAT(run("key create cred --purpose transport --algorithm rsa-2048").output,
              HasSubstr("RSA-OAEP-256"));
  EXPECT_EQ(run("key create rel --purpose sign").status, 0);
  const std::string sealed = state() + "/sealed", signature = state() + "/signature",
                    pem = state() + "/pem";
  EXPECT_EQ(run("seal - --key cred -o " + sealed, "printf 'a secret' |").status, 0);
  EXPECT_EQ(run("open " + sealed).output, "a secret");
  EXPECT_EQ(run("sign " + sealed + " --key rel -o " + signature).status, 0);
  EXPECT_EQ(run("key public rel -o " + pem).status, 0);
  EXPECT_THAT(run_command("openssl dgst -sha256 -verify " + pem + " -signature " + signature + " " +
                          sealed),
              HasSubstr("Verified OK"));
  EXPECT_THAT(run("key show cred --prove").output, HasSubstr("cannot leave the token"));
  EXPECT_EQ(run("audit verify").status, 0);
  EXPECT_EQ(run("doctor").status, 0);
  EXPECT_EQ(run("key create vault --purpose storage").status, 3);
  EXPECT_THAT(run_command(provision()), HasSubstr("nothing changed"));
}

// Signs until that succeeds, with the agent that is there.
bool signs_again(const std::function<CommandResult()>& sign) {
  return wait_until([&] { return sign().status == 0; });
}

TEST_F(TpmAgent, Fault018_AResourceManagerThatRestartsIsFoundAgainWithoutARestartOfTheAgent) {
  ASSERT_EQ(run("key create rel --purpose sign").status, 0);
  const auto sign = [this] { return run(sign_words()); };
  ASSERT_EQ(sign().status, 0);
  const auto pid = pid_;
  for (int round = 0; round < 2; ++round) {
    tpm_->kill_manager();
    const auto failed = sign();
    EXPECT_EQ(failed.status, 4) << failed.output;
    tpm_->restart_manager();
    EXPECT_TRUE(signs_again(sign)) << sign().output;
  }
  EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0) << "it is the same process";
  EXPECT_EQ(run("doctor").status, 0);
  EXPECT_EQ(run("audit verify").status, 0);
}

TEST_F(TpmAgent, Fault016_SlotsThatAnotherProgramHoldsAreAFaultThatNamesTheCauseUntilTheyAreFree) {
  ASSERT_EQ(run("key create rel --purpose sign").status, 0);
  const auto sign = [this] { return run(sign_words()); };
  ASSERT_EQ(sign().status, 0);
  // Three objects past the resource manager, which is all that a TPM has room for.
  tpm_->kill_manager();
  for (int i = 0; i < 3; ++i)
    tpm_->run_directly("tpm2_createprimary -C n -c " + folder_.path().string() + "/other.ctx");
  tpm_->restart_manager();
  for (int i = 0; i < 3; ++i) {
    const auto failed = sign();
    EXPECT_EQ(failed.status, 4) << failed.output;
  }
  EXPECT_TRUE(wait_until([&] {
    const auto doctor = run("doctor").output;
    return doctor.find("tpm2_flushcontext") != std::string::npos &&
           doctor.find("/dev/tpmrm0") != std::string::npos;
  })) << run("doctor").output;
  tpm_->kill_manager();
  tpm_->run_directly("tpm2_flushcontext --transient-object");
  tpm_->restart_manager();
  EXPECT_TRUE(signs_again(sign)) << sign().output;
  EXPECT_EQ(run("doctor").status, 0);
}

// The module answers for a cleared TPM as for any other fault. What it was is known once there is a
// token again.
TEST_F(TpmAgent, Fault017_AClearedTpmIsAFaultThatNamesTheWayBackAndThenItsKeysAreLostByKid) {
  ASSERT_EQ(run("key create rel --purpose sign").status, 0);
  const auto sign = [this] { return run(sign_words()); };
  ASSERT_EQ(sign().status, 0);
  const auto shown = run("--json key show rel").output;
  const auto at = shown.find('"', shown.find(':', shown.find("\"kid\""))) + 1;
  const auto kid = shown.substr(at, shown.find('"', at) - at);
  ASSERT_EQ(kid.size(), 43u) << shown;
  tpm_->clear();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(sign().status, 4) << sign().output;
  EXPECT_THAT(run("doctor").output, HasSubstr("scripts/provision-token"));
  // The printed way back.
  stop();
  std::filesystem::remove_all(state() + "/tpm2-pkcs11");
  const auto again = try_command(provision() + " 2>&1");
  EXPECT_EQ(again.status, 0) << again.output;
  start();
  EXPECT_TRUE(wait_until([&] {
    return run("doctor").output.find("KEY_LOST") != std::string::npos;
  })) << run("doctor").output
      << again.output;
  const auto lost = sign();
  EXPECT_EQ(lost.status, 4) << lost.output;
  EXPECT_THAT(lost.output, HasSubstr("KEY_LOST"));
  EXPECT_THAT(run("doctor").output, HasSubstr(kid));
}

TEST_F(TpmAgent, Fault120_TheProvisionalPinsAreGone) {
  std::ofstream(state() + "/guess") << "provisional";
  run_command("chmod 0400 " + state() + "/guess");
  for (const char* whose : {"", "--so "}) {
    const auto tried =
        try_command(std::string(KEYAGENT " token change-pin ") + whose + "--profile tpm2 --state " +
                    state() + " --label tpm --pin-source file:" + state() +
                    "/guess --new-pin-source file:" + state() + "/guess 2>&1");
    EXPECT_EQ(tried.status, 4) << tried.output;
  }
}

}  // namespace
}  // namespace keyagent::test
