// SPDX-License-Identifier: Apache-2.0
// Sessions over a long run: none leaks, none takes the login with it, want of them is survived.

#include <atomic>
#include <cstdlib>
#include <vector>

#include "pkcs11/login.h"
#include "pkcs11/module.h"
#include "pkcs11/slot.h"
#include "tests/pkcs11/token_fixture.h"

namespace keyagent::pkcs11 {
namespace {

// KEYAGENT_LEAK_OPERATIONS=1000000 for the long run.
int operations() {
  const char* text = std::getenv("KEYAGENT_LEAK_OPERATIONS");
  return text == nullptr ? 20000 : std::atoi(text);
}

class SessionLeakTest : public TokenTest {
 protected:
  void open_with_key() {
    open();
    spki_ = generate_key();
    sign_digest();
    shim::reset_counts();
  }
  // Operations of several threads; how many of them failed.
  template <class Work>
  static int run_threads(int threads, int each, Work&& work) {
    std::atomic<int> failed{0};
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i) {
      running.emplace_back([&] {
        for (int j = 0; j < each; ++j) {
          try {
            work();
          } catch (const Error&) {
            ++failed;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a reload takes its time
          }
        }
      });
    }
    for (auto& thread : running) thread.join();
    return failed;
  }
  Bytes spki_;
};

// Faults of every class at every call of an operation: together about one operation in a hundred.
TEST_F(SessionLeakTest, Fault013_SessionsOpenInTheTokenNeverExceedThePoolUnderRandomFaults) {
  profile_.sessions = 3;
  options_.backoff_first = options_.backoff_most = std::chrono::milliseconds(1);
  open_with_key();
  shim::set_faults(
      "C_Sign:chance=2:rv=0x30; C_Sign:chance=2:rv=0x5; C_SignInit:chance=2:rv=0xb3; "
      "C_SignInit:chance=2:rv=0x82; C_FindObjects:chance=2:rv=0x31; "
      "C_FindObjectsInit:chance=2:rv=0x90; C_CopyObject:chance=2:rv=0x32; "
      "C_OpenSession:chance=2:rv=0xb1; C_GetSessionInfo:chance=2:rv=0x6; "
      "C_GenerateRandom:chance=2:rv=0x30");
  std::atomic<long> most{0};
  const int threads = 6, each = (operations() + threads - 1) / threads, all = threads * each;
  const int failed = run_threads(threads, each, [&] {
    const long open_now = shim::sessions();
    for (long seen = most; open_now > seen && !most.compare_exchange_weak(seen, open_now);) {
    }
    sign_digest();
  });
  shim::clear();
  EXPECT_TRUE(eventually([&] { return token_->check_health(); }));
  EXPECT_TRUE(verifies(spki_, sign_digest()));
  EXPECT_GT(failed, all / 2000) << "the faults did not strike";
  EXPECT_LT(failed, all / 10);
  // Beyond the pool: the pinned login session, and a canary's, of which there is one at a time.
  EXPECT_LE(most, 5);
  EXPECT_LE(shim::sessions(), 4);
  EXPECT_EQ(token_->status().sessions_busy, 0u);
  EXPECT_GE(shim::count("C_CloseSession"), static_cast<std::uint64_t>(all) / 2000);
}

// A limit as real tokens have it: three sessions, and a wrong code for more.
TEST_F(SessionLeakTest, Fault014_ArgumentsBadAfterAGoodSessionIsASessionLimitThatFailsNoRequest) {
  profile_.sessions = 8;
  open_with_key();  // the pool has one
  shim::set_faults("C_OpenSession:from=3:rv=0x7");
  EXPECT_EQ(run_threads(8, 200, [&] { EXPECT_TRUE(verifies(spki_, sign_digest())); }), 0);
  const auto status = token_->status();
  EXPECT_LE(status.sessions_limit, 3u);
  EXPECT_LE(status.sessions_open, 3u);
  EXPECT_EQ(status.recoveries, 0u);
  EXPECT_EQ(status.state, TokenState::kUp);
  // One failed attempt to open a session, then none before the pause ends: not one per request.
  EXPECT_LE(shim::count("C_OpenSession"), 2u + 8u);
}

// What entry 44 is about, on the bare token: the login goes with the last session.
TEST_F(SessionLeakTest, Fault044_ControlClosingTheLastSessionOfABareTokenLogsOut) {
  open_with_key();
  token_.reset();
  const auto module = Module::open(profile_, options_.state_folder);
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  module->reload(module->epoch(), until);
  const auto entry = module->enter(until);
  const auto slot = find_slot(*module->functions(), options_.selector);
  RefusedPin refused({});
  auto only = std::make_unique<Session>(module, slot.slot, profile_);
  log_in(*module->functions(), only->handle(), slot.info, profile_, options_.pin, refused);
  EXPECT_NO_THROW(only->require_login());
  only = std::make_unique<Session>(module, slot.slot, profile_);
  EXPECT_NO_THROW(only->require_login()) << "opened before the last one closed";
  only.reset();
  only = std::make_unique<Session>(module, slot.slot, profile_);
  EXPECT_ANY_THROW(only->require_login());
}

// Every lease closes its session and the next one opens one, from two threads at once: the pool is
// empty again and again, and the login stays.
TEST_F(SessionLeakTest, Fault044_RacingCloseOfTheLastSessionAndOpenOfTheNextKeepsLoginAndSession) {
  profile_.sessions = 2;
  open_with_key();
  const int each = operations() / 2;
  const int failed = run_threads(2, each, [&] {
    token_->run([&](Session& session) {
      session.require_login();
      session.mark_unusable();
    });
  });
  EXPECT_EQ(failed, 0);
  EXPECT_GE(shim::count("C_CloseSession"), static_cast<std::uint64_t>(each));
  EXPECT_EQ(shim::count("C_Login"), 0u);
  EXPECT_EQ(token_->status().recoveries, 0u);
  EXPECT_EQ(token_->status().sessions_open, 0u);
  EXPECT_EQ(shim::sessions(), 1) << "the pinned one";
  EXPECT_TRUE(verifies(spki_, sign_digest()));
}

}  // namespace
}  // namespace keyagent::pkcs11
