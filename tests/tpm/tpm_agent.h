// SPDX-License-Identifier: Apache-2.0
#pragma once
// A keyagentd on a TPM, as scripts/provision-token sets it up. Skipped where swtpm is missing.

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

inline std::string slurp(const std::filesystem::path& path) {
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
  ~TpmAgent() override { stop(); }

  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  std::string provision() const {
    const std::string user = std::to_string(::geteuid());
    return std::string(KEYAGENT_SOURCE) + "/scripts/provision-token --state " + state() +
           " --label tpm --profile tpm2 --allow-credential '" + user + ":*' --allow-work '" + user +
           ":*:*' --keyagent " KEYAGENT;
  }
  std::string sign_words() const {
    return "sign " + state() + "/keyagentd.yml --key rel -o " + state() + "/signature";
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

}  // namespace keyagent::test
