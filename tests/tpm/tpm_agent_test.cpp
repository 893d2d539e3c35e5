// scripts/provision-token, keyagentd and keyagent on a TPM: what quickstart shows on SoftHSM.

#include "tests/tpm/tpm_agent.h"

#include <gmock/gmock.h>

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;

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
