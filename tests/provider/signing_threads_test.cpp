// SPDX-License-Identifier: Apache-2.0
// T12: a program with many threads signs through the provider while the agent comes and goes. Made
// to be run under the sanitizers too (ci/check-sanitizers).

#include <gmock/gmock.h>
#include <openssl/err.h>
#include <openssl/provider.h>

#include <array>
#include <atomic>

#include "agent/openssl/provider.h"
#include "agent/provider/remote_backend.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/loaded_key.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::filesystem::path g_socket;  // a builtin provider has no section in a configuration

int start_builtin(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in,
                  const OSSL_DISPATCH** out, void** context) {
  return openssl::start_provider(handle, in, out, context, [](const auto&) {
    return std::make_shared<provider::RemoteBackend>(g_socket);
  });
}

class SigningThreads : public testing::Test {
 protected:
  struct Kind {
    const char* algorithm;
    const char* digest;  // nullptr: the message itself is signed
  };
  static constexpr std::array<Kind, 4> kKinds{
      {{"rsa-2048", "SHA256"}, {"ec-p256", "SHA256"}, {"ec-p384", "SHA384"}, {"ed25519", nullptr}}};

  void SetUp() override {
    agent_.start();
    ASSERT_TRUE(agent_.serving()) << agent_.story();
    for (const auto& kind : kKinds) agent_.create(kind.algorithm, "sign", kind.algorithm);
    g_socket = agent_.socket();
    library_ = OSSL_LIB_CTX_new();
    ASSERT_EQ(OSSL_PROVIDER_add_builtin(library_, "keyagent", start_builtin), 1);
    for (const char* name : {"default", "keyagent"}) {
      providers_.push_back(OSSL_PROVIDER_load(library_, name));
      ASSERT_NE(providers_.back(), nullptr) << name;
    }
  }
  void TearDown() override {
    for (auto* each : providers_) OSSL_PROVIDER_unload(each);
    OSSL_LIB_CTX_free(library_);
  }

  Pkey load(const std::string& name) const { return load_key(library_, "keyagent:" + name); }
  bool signs(const Kind& kind, EVP_PKEY* key) const {
    return signs_with(library_, key, kind.digest);
  }

  AgentProcess agent_;
  OSSL_LIB_CTX* library_ = nullptr;
  std::vector<OSSL_PROVIDER*> providers_;
};

TEST_F(SigningThreads, T12_EightThreadsSignWithEachKindOfKeyWhileTheAgentIsRestarted) {
  std::vector<Pkey> shared;
  for (const auto& kind : kKinds) {
    shared.push_back(load(kind.algorithm));
    ASSERT_TRUE(shared.back()) << kind.algorithm;
    // Libraries make their own singletons at first use, with guards that a sanitizer cannot see.
    ASSERT_TRUE(signs(kind, shared.back().get())) << kind.algorithm;
  }
  std::atomic<bool> done{false};
  std::atomic<int> failed{0}, all{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const std::size_t which = i % kKinds.size();
      for (int round = 0; !done || round < 5; ++round) {
        // Half of them share a key, the others load and free one each time.
        const Pkey own = i < 4 ? Pkey(nullptr, EVP_PKEY_free) : load(kKinds[which].algorithm);
        EVP_PKEY* key = i < 4 ? shared[which].get() : own.get();
        if (key == nullptr || !signs(kKinds[which], key)) {
          ++failed;
          std::array<char, 256> why{};
          ERR_error_string_n(ERR_peek_last_error(), why.data(), why.size());
          ADD_FAILURE() << kKinds[which].algorithm << ": " << why.data();
          return;
        }
        ERR_clear_error();
        ++all;
      }
    });
  }
  for (int i = 0; i < 4; ++i) {
    const int before = all;
    ASSERT_TRUE(wait_until([&] { return all > before + 20; })) << all;
    i % 2 == 0 ? agent_.kill() : static_cast<void>(agent_.stop());
    agent_.start();
    EXPECT_TRUE(agent_.serving()) << agent_.story();
  }
  done = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0) << "of " << all;
  EXPECT_GT(all, 80);
  EXPECT_EQ(agent_.stop(), 0);
  EXPECT_THAT(read_text(agent_.log()), Not(HasSubstr("Sanitizer"))) << "in the agent itself";
}

}  // namespace
}  // namespace keyagent::test
