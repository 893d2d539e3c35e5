// SPDX-License-Identifier: Apache-2.0
// A network HSM: SoftHSM in its own process behind `p11-kit server`, which can be killed.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <future>
#include <string>
#include <thread>

#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::pkcs11 {
namespace {

std::filesystem::path existing(const std::vector<std::filesystem::path>& paths) {
  const auto found = std::find_if(paths.begin(), paths.end(),
                                  [](const auto& path) { return std::filesystem::exists(path); });
  return found == paths.end() ? std::filesystem::path() : *found;
}

template <class Condition>
bool eventually(Condition&& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class NetworkHsmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    client_ = existing({"/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
                        "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so"});
    if (client_.empty()) GTEST_SKIP() << "p11-kit-client.so is not installed (p11-kit-modules)";
    start_server();
    profile_.modules = {client_};
    profile_.environment = {{"P11_KIT_SERVER_ADDRESS", "unix:path=" + socket().string()}};
    profile_.session_copies = false;
    options_.backoff_first = std::chrono::milliseconds(20);
    options_.backoff_most = std::chrono::milliseconds(200);
    token_ = std::make_unique<Token>(profile_, options_);
    ASSERT_EQ(token_->status().state, TokenState::kUp) << token_->status().detail;
    spki_ = token_->run([&](Session& session) {
      return generate(session, {KeyKind::kEcP256, Usage::kSign, Bytes(16, 1), "net", false});
    });
  }
  void TearDown() override {
    token_.reset();
    kill_server();
  }

  std::filesystem::path socket() const { return hsm_.folder() / "p11.sock"; }

  void start_server() {
    std::filesystem::remove(socket());
    const std::string module = existing(hsm_.profile().modules).string();
    server_ = ::fork();
    if (server_ == 0) {
      ::setpgid(0, 0);
      ::setenv("SOFTHSM2_CONF", hsm_.conf().c_str(), 1);
      ::execlp("p11-kit", "p11-kit", "server", "-f", "-n", socket().c_str(), "--provider",
               module.c_str(), "pkcs11:", nullptr);
      ::_exit(127);
    }
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(socket()); }));
  }
  void kill_server() {
    if (server_ <= 0) return;
    ::kill(-server_, SIGKILL);  // each connection is served by a child of the listener
    ::waitpid(server_, nullptr, 0);
    server_ = 0;
  }

  bool sign_and_verify() {
    const Bytes digest(32, 7);
    const auto signature = token_->run([&](Session& session) {
      return sign(session, Bytes(16, 1), KeyKind::kEcP256, SignScheme::kEcdsa, Hash::kSha256,
                  digest);
    });
    return verify_signature(spki_, SignScheme::kEcdsa, Hash::kSha256, digest, signature);
  }

  test::SoftHsm hsm_;
  Profile profile_ = hsm_.profile();
  TokenOptions options_ = hsm_.options();
  std::filesystem::path client_;
  std::unique_ptr<Token> token_;
  Bytes spki_;
  pid_t server_ = 0;
};

TEST_F(NetworkHsmTest, Fault001_Fault047_AKilledServerIsSurvivedAndFoundAgain) {
  EXPECT_TRUE(sign_and_verify());
  for (int round = 0; round < 3; ++round) {
    kill_server();  // the next write of the module goes to a closed socket: SIGPIPE
    EXPECT_THROW(sign_and_verify(), Error);
    EXPECT_FALSE(token_->check_health());
    EXPECT_NE(token_->status().state, TokenState::kUp);
    start_server();
    EXPECT_TRUE(eventually([&] { return token_->check_health(); })) << token_->status().detail;
    EXPECT_TRUE(sign_and_verify());
  }
}

// As a firewall does that forgets an idle connection: nothing comes back, not even a refusal.
TEST_F(NetworkHsmTest, Fault009_ASilentlyDroppedConnectionEndsTheCallAtItsDeadlineAndIsReplaced) {
  token_.reset();
  profile_.deadline = std::chrono::milliseconds(500);
  token_ = std::make_unique<Token>(profile_, options_);
  ASSERT_TRUE(sign_and_verify());
  ::kill(-server_, SIGSTOP);
  const auto kind = [&] {
    try {
      sign_and_verify();
    } catch (const Error& error) {
      return error.kind();
    }
    return Error::Kind::kProfile;
  };
  auto asked = std::async(std::launch::async, kind);
  // The call waits in the module and is reported as stuck; others are answered.
  EXPECT_TRUE(eventually([&] { return token_->status().stuck_calls == 1; }));
  EXPECT_EQ(asked.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  ::kill(-server_, SIGCONT);
  asked.get();
  EXPECT_TRUE(eventually([&] {
    try {
      return sign_and_verify();
    } catch (const Error&) {
      return false;
    }
  })) << token_->status().detail;
  EXPECT_EQ(token_->status().stuck_calls, 0u);
}

TEST_F(NetworkHsmTest, Fault002_AServerThatRestartedBetweenTwoCallsIsNotNoticedForLong) {
  kill_server();
  start_server();
  EXPECT_TRUE(eventually([&] {
    try {
      return sign_and_verify();
    } catch (const Error&) {
      return false;
    }
  })) << token_->status().detail;
}

}  // namespace
}  // namespace keyagent::pkcs11
