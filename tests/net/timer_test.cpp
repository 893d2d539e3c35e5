// SPDX-License-Identifier: Apache-2.0
#include "agent/net/timer.h"

#include <gmock/gmock.h>

#include <atomic>

#include "harness.h"

namespace keyagent::net {
namespace {

using namespace std::chrono_literals;

TEST(Timer, NearTasksRunInTheOrderOfTheirTimes) {
  Timer timer;
  std::mutex mutex;
  std::vector<int> order;
  const auto now = std::chrono::steady_clock::now();
  for (const int i : {3, 1, 2}) {
    timer.at(now + i * 10ms, [&, i] {
      std::lock_guard lock(mutex);
      order.push_back(i);
    });
  }
  EXPECT_TRUE(eventually([&] {
    std::lock_guard lock(mutex);
    return order.size() == 3;
  }));
  EXPECT_THAT(order, testing::ElementsAre(1, 2, 3));
}

TEST(Timer, DistantTaskIsNeverEarly) {
  Timer timer;
  std::atomic<bool> ran{false};
  const auto when = std::chrono::steady_clock::now() + 130ms;
  std::atomic<bool> early{false};
  timer.at(when, [&] {
    early = std::chrono::steady_clock::now() < when;
    ran = true;
  });
  EXPECT_TRUE(eventually([&] { return ran.load(); }));
  EXPECT_FALSE(early);
}

TEST(Timer, TasksAfterItsEndAreDroppedWithWhatTheyHold) {
  auto held = std::make_shared<int>(1);
  Timer timer;
  timer.at(std::chrono::steady_clock::now() + 1h, [held] {});
  timer.stop();
  timer.at(std::chrono::steady_clock::now(), [held] {});
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace keyagent::net
