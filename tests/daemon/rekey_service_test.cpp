// SPDX-License-Identifier: Apache-2.0
// The periods of the configuration, as the daemon's thread has them kept.

#include "agent/daemon/rekey_service.h"

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/code_of.h"

namespace keyagent::daemon {
namespace {

using namespace std::chrono_literals;

TEST(RekeyService, Fault165_PeriodsOfTheConfigurationEndUseAndAReloadChangesThem) {
  const test::SoftHsm hsm;
  vault::TokenVault vault(hsm.open());
  keys::KeyStore store({hsm.folder() / "state", &system_clock(), "test"}, vault);
  store.reconcile();
  const auto key =
      store.create({KeyName("releases"), Purpose::kSign, KeyAlgorithm::kEcP256, std::nullopt})
          .record;
  const auto sign = [&] {
    return code_of(
        [&] { store.ops().sign(key.kid, SignatureAlgorithm::kEs256, random_bytes(32)); });
  };
  config::RekeyConfig config;
  RekeyService service(
      store, config, nullptr, [](const auto&) {}, [] { return true; }, [] {});
  service.start();
  EXPECT_EQ(sign(), Code::kOk);
  config.grace = 0ms;
  config.purposes[Purpose::kSign].every = 1ms;
  config.purposes[Purpose::kSign].automatic = false;
  service.reload(config);
  EXPECT_TRUE(test::wait_until([&] { return sign() == Code::kKeyState; }));
  service.reload(config::RekeyConfig{});
  EXPECT_TRUE(test::wait_until([&] { return sign() == Code::kOk; }));
}

}  // namespace
}  // namespace keyagent::daemon
