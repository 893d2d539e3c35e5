// SPDX-License-Identifier: Apache-2.0
// The session pool under want of sessions, stuck calls, crowds and random faults.

#include <atomic>
#include <future>
#include <vector>

#include "tests/pkcs11/token_fixture.h"

namespace keyagent::pkcs11 {
namespace {

class SessionPoolTest : public TokenTest {
 protected:
  // Holds a session of the pool until let go.
  struct Holder {
    std::promise<void> release;
    std::thread thread;
  };
  std::unique_ptr<Holder> hold() {
    auto holder = std::make_unique<Holder>();
    std::promise<void> held;
    auto has_it = held.get_future();
    holder->thread = std::thread([&, go = holder->release.get_future()]() mutable {
      token_->run([&](Session&) {
        held.set_value();
        go.wait();
      });
    });
    has_it.wait();
    return holder;
  }
  static void let_go(std::unique_ptr<Holder>& holder) {
    holder->release.set_value();
    holder->thread.join();
    holder.reset();
  }
};

class WantOfSessionsTest : public SessionPoolTest,
                           public ::testing::WithParamInterface<const char*> {};

TEST_P(WantOfSessionsTest, Fault012_SessionCountShrinksThePoolAndItGrowsAgain) {
  options_.grow_again = std::chrono::milliseconds(0);
  open();
  auto first = hold();
  auto second = hold();
  shim::set_faults(std::string("C_OpenSession:from=1:rv=") + GetParam());
  auto third = std::async(std::launch::async, [&] { token_->run([](Session&) {}); });
  ASSERT_TRUE(eventually([&] { return token_->status().sessions_waiting == 1; }));
  EXPECT_EQ(token_->status().sessions_limit, 2u);
  let_go(first);
  EXPECT_NO_THROW(third.get());
  shim::clear();
  first = hold();
  auto grown = hold();
  EXPECT_EQ(token_->status().sessions_limit, 3u);
  for (auto* holder : {&first, &second, &grown}) let_go(*holder);
}

// 0x7 is entry 14: the wrong code for the same thing.
INSTANTIATE_TEST_SUITE_P(Codes, WantOfSessionsTest, ::testing::Values("0xb1", "0x7"));

TEST_F(SessionPoolTest, Fault014_ArgumentsBadOnTheFirstSessionIsNotASessionLimit) {
  open();
  shim::set_faults("C_OpenSession:from=1:rv=0x7");
  EXPECT_EQ(kind_of([&] { token_->run([](Session&) {}); }), Error::Kind::kRv);
  EXPECT_EQ(token_->status().sessions_limit, profile_.sessions);
}

TEST_F(SessionPoolTest, Fault011_ABurstWaitsInOrderAndTheRestGetsBusy) {
  profile_.sessions = 1;
  profile_.queue = 3;
  profile_.deadline = std::chrono::seconds(30);
  open();
  auto holder = hold();
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::thread> waiting;
  // A waiter holds no session; that it stands in the queue shows in the answer BUSY to one more.
  for (int i = 0; i < 3; ++i) {
    waiting.emplace_back([&, i] {
      token_->run([&](Session&) {
        const std::lock_guard lock(mutex);
        order.push_back(i);
      });
    });
    ASSERT_TRUE(
        eventually([&] { return token_->status().sessions_waiting == std::size_t(i) + 1; }));
  }
  EXPECT_EQ(kind_of([&] { token_->run([](Session&) {}); }), Error::Kind::kBusy);
  let_go(holder);
  for (auto& thread : waiting) thread.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
}

TEST_F(SessionPoolTest, Fault010_ACallThatHangsIsCountedAndOthersContinue) {
  profile_.sessions = 2;
  profile_.deadline = std::chrono::seconds(1);  // the other one signs within it
  open();
  generate_key();
  shim::set_faults("C_Sign:n=1:hang");
  auto stuck = std::async(std::launch::async, [&] { return sign_digest(); });
  ASSERT_TRUE(eventually([&] { return token_->status().stuck_calls == 1; }));
  EXPECT_NO_THROW(sign_digest());
  EXPECT_EQ(token_->status().state, TokenState::kUp);
  shim::release_hangs();
  EXPECT_NO_THROW(stuck.get());
  EXPECT_EQ(token_->status().stuck_calls, 0u);
}

TEST_F(SessionPoolTest, Fault010_WhenEverySessionIsStuckCallersFailAtOnce) {
  profile_.sessions = 1;
  profile_.deadline = std::chrono::seconds(1);  // a key is made within it
  open();
  generate_key();
  shim::set_faults("C_Sign:n=1:hang");
  auto stuck = std::async(std::launch::async, [&] { return sign_digest(); });
  ASSERT_TRUE(eventually([&] { return token_->status().state == TokenState::kStuck; }));
  EXPECT_EQ(kind_of([&] { sign_digest(); }), Error::Kind::kStuck);
  shim::release_hangs();
  EXPECT_NO_THROW(stuck.get());
  EXPECT_NO_THROW(sign_digest());
}

TEST_F(SessionPoolTest, AWaiterIsAnsweredAtItsDeadline) {
  profile_.sessions = 1;
  profile_.deadline = std::chrono::milliseconds(100);
  open();
  auto holder = hold();
  const auto kind = kind_of([&] { token_->run([](Session&) {}); });
  EXPECT_TRUE(kind == Error::Kind::kDeadline || kind == Error::Kind::kStuck);
  let_go(holder);
}

TEST_F(SessionPoolTest, Fault013_RandomFaultsLeakNoSession) {
  profile_.sessions = 3;
  options_.backoff_most = std::chrono::hours(1);
  open();
  generate_key();
  shim::set_faults(
      "C_Sign:every=7:rv=0x32; C_SignInit:every=11:rv=0xb3; C_Sign:every=13:rv=0x5; "
      "C_FindObjectsInit:every=5:rv=0x31; "
      "C_CopyObject:every=19:rv=0x30");
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 500; ++j) {
        try {
          sign_digest();
        } catch (const Error&) {
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  shim::clear();
  EXPECT_NO_THROW(sign_digest());
  const auto status = token_->status();
  EXPECT_EQ(status.sessions_busy, 0u);
  EXPECT_LE(status.sessions_open, 3u);
  // Beyond the pool there is the pinned login session; a reload ends all sessions without closing.
  const auto never_closed = shim::count("C_OpenSession") - shim::count("C_CloseSession");
  EXPECT_LE(status.recoveries, 1u);
  EXPECT_LE(never_closed, 4u * (1 + status.recoveries));
}

TEST_F(SessionPoolTest, Fault009_ASessionThatRestedTooLongIsNotUsed) {
  profile_.keep_alive = std::chrono::milliseconds(1);
  open();
  token_->run([](Session&) {});
  shim::reset_counts();
  std::this_thread::sleep_for(std::chrono::milliseconds(3));  // elapses: the keep-alive
  token_->run([](Session&) {});
  EXPECT_EQ(shim::count("C_OpenSession"), 1u);
  EXPECT_EQ(shim::count("C_CloseSession"), 1u);
}

TEST_F(SessionPoolTest, Fault044_TheLastPooledSessionClosesWithoutEndingTheLogin) {
  profile_.sessions = 2;
  open();
  generate_key();
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 200; ++j) {
        sign_digest();
        token_->renew_sessions();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(shim::count("C_Login"), 1u);
  EXPECT_EQ(token_->status().recoveries, 0u);
}

}  // namespace
}  // namespace keyagent::pkcs11
