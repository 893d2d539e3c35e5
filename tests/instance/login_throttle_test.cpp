// SPDX-License-Identifier: Apache-2.0
// Who waits after wrong passwords, and who gets a place to have one hashed.

#include "agent/instance/common/login_throttle.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/base/error.h"
#include "agent/instance/common/hashing_places.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

TEST(LoginThrottle, Fault151_ThePauseDoublesUpToItsLimitAndIsOfTheAddress) {
  test::FakeClock clock;
  LoginThrottle throttle(clock);
  for (int i = 0; i < 3; ++i) throttle.failed("a", "ada");
  EXPECT_EQ(throttle.pause("a", "ada"), 0ms);
  for (const auto wanted : {1s, 2s, 4s, 8s}) {
    throttle.failed("a", "ada");
    EXPECT_EQ(throttle.pause("a", "ada"), wanted);
    EXPECT_EQ(throttle.pause("a", "bob"), 0ms);
    EXPECT_EQ(throttle.pause("b", "ada"), 0ms);
  }
  for (int i = 0; i < 40; ++i) throttle.failed("a", "ada");
  EXPECT_EQ(throttle.pause("a", "ada"), 15min);
  EXPECT_EQ(throttle.pause("a", "bob"), 15min);  // by now the address itself
  EXPECT_EQ(throttle.pause("b", "ada"), 0ms);
  clock.advance(15min);
  EXPECT_EQ(throttle.pause("a", "ada"), 0ms);
  clock.advance(61min);
  throttle.failed("a", "ada");
  EXPECT_EQ(throttle.pause("a", "ada"), 0ms);  // forgotten
}

TEST(LoginThrottle, Fault151_ARightPasswordForgivesItsNameAlone) {
  test::FakeClock clock;
  LoginThrottle throttle(clock);
  for (int i = 0; i < 10; ++i) {
    throttle.failed("a", "n" + std::to_string(i));
    throttle.succeeded("a", "own");
  }
  throttle.failed("a", "next");
  EXPECT_GT(throttle.pause("a", "other"), 0ms);
}

TEST(LoginThrottle, Fault151_AFloodOfAddressesForgetsNoPauseAndTakesNoMemory) {
  test::FakeClock clock;
  LoginThrottle::Limits limits;
  limits.max_entries = 50;
  LoginThrottle throttle(clock, limits);
  for (int i = 0; i < 12; ++i) throttle.failed("guesser", "ada");
  const auto pause = throttle.pause("guesser", "ada");
  EXPECT_GT(pause, 0ms);
  for (int i = 0; i < 1000; ++i)
    throttle.failed("flood" + std::to_string(i), "n" + std::to_string(i));
  EXPECT_LE(throttle.entries(), 50u);
  EXPECT_EQ(throttle.pause("guesser", "ada"), pause);
  EXPECT_EQ(throttle.pause("somebody else", "ada"), 0ms);
}

TEST(HashingPlaces, Fault151_AnAddressHasItsShareAndOneThatWaits) {
  HashingPlaces places({.places = 2, .max_waiting = 4, .longest_wait = 20ms});
  const HashingPlaces::Lease first(places, "flood", false);
  const auto again = [&] { const HashingPlaces::Lease more(places, "flood", false); };
  EXPECT_EQ(code_of(again), Code::kBusy);
  const HashingPlaces::Lease other(places, "admin", true);
}

TEST(HashingPlaces, Fault151_WhoHasNoFailuresGoesFirst) {
  HashingPlaces places({.places = 1, .max_waiting = 2, .longest_wait = 10s});
  std::optional<HashingPlaces::Lease> running;
  running.emplace(places, "x", false);
  std::atomic<int> order = 0, clean_at = 0, refused = 0;
  std::vector<std::thread> waiting;
  const auto wait = [&](const std::string& address, bool clean) {
    waiting.emplace_back([&, address, clean] {
      try {
        const HashingPlaces::Lease lease(places, address, clean);
        const int place = ++order;
        if (clean) clean_at = place;
      } catch (const Error&) {
        ++refused;
      }
    });
  };
  wait("flood1", false);
  wait("flood2", false);
  while (places.waiting() < 2) std::this_thread::yield();
  wait("admin", true);  // the queue is full: it takes the place of one of them
  while (refused == 0) std::this_thread::yield();
  running.reset();
  for (auto& each : waiting) each.join();
  EXPECT_EQ(clean_at, 1);
  EXPECT_EQ(refused, 1);
}

}  // namespace
}  // namespace keyagent::instance
