// SPDX-License-Identifier: Apache-2.0
#pragma once
// A host whose OpenSSL programs have keyagent.so.

#include "tests/e2e/host.h"
#include "tests/support/free_port.h"

namespace keyagent::test {

class OpensslTest : public testing::Test {
 protected:
  // Starts the agent, and writes the configuration that loads the provider.
  void start_with_provider() {
    host_.start();
    ASSERT_TRUE(host_.serving()) << host_.story();
    host_.write(
        "openssl.cnf",
        "openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = software\n"
        "keyagent = agent\n[software]\nactivate = 1\n[agent]\nmodule = " KEYAGENT_PROVIDER
        "\nkeyagent-socket = " +
            host_.socket().string() + "\nactivate = 1\n");
  }
  // A shell line with the provider active in every OpenSSL program.
  CommandResult with_provider(const std::string& line) const {
    return try_command("cd '" + host_.work.path().string() + "' && export OPENSSL_CONF=" +
                       host_.file("openssl.cnf").string() + " && { " + line + "; } 2>&1");
  }
  // What it said; it must end well.
  std::string run(const std::string& line) const {
    const auto result = with_provider(line);
    EXPECT_EQ(result.status, 0) << line << "\n" << result.output;
    return result.output;
  }

  Host host_;
};

}  // namespace keyagent::test
