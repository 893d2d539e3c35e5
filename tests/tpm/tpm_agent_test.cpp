// scripts/provision-token, keyagentd and keyagent on a TPM: what quickstart shows on SoftHSM.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/command.h"
#include "tests/support/swtpm.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class TpmAgent : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Swtpm::available()) GTEST_SKIP() << Swtpm::missing();
    tpm_.emplace("fixture");
    run_command(provision());
    pass_environment();
    start();
  }
  ~TpmAgent() override {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }

  std::string provision() const {
    return std::string(KEYAGENT_SOURCE) + "/scripts/provision-token --state " + state() +
           " --label tpm --profile tpm2 --keyagent " KEYAGENT;
  }
  std::string state() const { return folder_.path().string() + "/state"; }

  // The daemon cleans its environment: what the module needs of this bus stands in the
  // configuration.
  void pass_environment() {
    std::string config = slurp(state() + "/keyagentd.yml");
    const std::string variables =
        std::string("  environment: {TPM2_PKCS11_TCTI: \"") + std::getenv("TPM2_PKCS11_TCTI") +
        "\", DBUS_SESSION_BUS_ADDRESS: \"" + std::getenv("DBUS_SESSION_BUS_ADDRESS") + "\"}\n";
    config.insert(config.find("  pin:"), variables);
    std::ofstream(state() + "/keyagentd.yml") << config;
  }

  void start() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string config = state() + "/keyagentd.yml";
      ::execl(KEYAGENTD, "keyagentd", "--config", config.c_str(), "--allow-root", nullptr);
      ::_exit(127);
    }
    for (int i = 0; i < 400 && run("status").status != 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }

  CommandResult run(const std::string& arguments, const std::string& before = {}) const {
    return try_command(before + " KEYAGENT_SOCKET=" + state() + "/run/agent.sock " KEYAGENT " " +
                       arguments + " 2>&1");
  }

  std::optional<Swtpm> tpm_;
  TempFolder folder_;
  pid_t pid_ = 0;
};

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
