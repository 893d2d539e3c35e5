// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/admission.h"

#include <gmock/gmock.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "agent/gate/deadlines.h"
#include "tests/support/fake_clock.h"

namespace keyagent::gate {
namespace {

using Answer = Admission::Answer;
using testing::ElementsAre;

// Holds the only slot until release().
class Holder {
 public:
  explicit Holder(Admission& admission) {
    thread_ = std::thread([this, &admission] {
      admission.submit({0,
                        [this] {
                          inside_.set_value();
                          let_go_.get_future().wait();
                        },
                        nullptr});
    });
    inside_.get_future().wait();
  }
  void release() {
    let_go_.set_value();
    thread_.join();
  }

 private:
  std::promise<void> inside_, let_go_;
  std::thread thread_;
};

Admission::Job note(std::vector<std::string>& order, std::uint32_t uid, const std::string& text) {
  return {uid, [&order, text] { order.push_back(text); }, nullptr};
}

TEST(Admission, FreeSlotRunsOnTheCallingThread) {
  Admission admission(1, 1);
  std::thread::id ran_on;
  EXPECT_EQ(admission.submit({7, [&] { ran_on = std::this_thread::get_id(); }, nullptr}),
            Answer::kRan);
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  EXPECT_EQ(admission.running(), 0u);
}

TEST(Admission, WaitingJobsAreTakenInTurnsOfTheirUsers) {
  Admission admission(1, 16);
  Holder holder(admission);
  std::vector<std::string> order;
  for (const char* text : {"a1", "a2", "a3"})
    EXPECT_EQ(admission.submit(note(order, 1, text)), Answer::kQueued);
  EXPECT_EQ(admission.submit(note(order, 2, "b1")), Answer::kQueued);
  EXPECT_EQ(admission.submit(note(order, 3, "c1")), Answer::kQueued);
  EXPECT_EQ(admission.waiting(), 5u);
  holder.release();
  EXPECT_THAT(order, ElementsAre("a1", "b1", "c1", "a2", "a3"));
  EXPECT_EQ(admission.waiting(), 0u);
}

TEST(Admission, Fault011_FullQueueAnswersBusyAndTakesNothing) {
  Admission admission(1, 2);
  Holder holder(admission);
  std::vector<std::string> order;
  admission.submit(note(order, 1, "first"));
  admission.submit(note(order, 2, "second"));
  EXPECT_EQ(admission.submit(note(order, 3, "third")), Answer::kBusy);
  holder.release();
  EXPECT_THAT(order, ElementsAre("first", "second"));
}

TEST(Admission, Fault149_ANewcomerTakesThePlaceOfTheNewestJobOfTheLargestUid) {
  Admission admission(1, 8);
  Holder holder(admission);
  std::vector<std::string> order;
  std::vector<int> displaced;
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(admission.submit({1, [&order, i] { order.push_back("flood" + std::to_string(i)); },
                                nullptr, [&displaced, i] { displaced.push_back(i); }}),
              Answer::kQueued)
        << "alone it may have all of it";
  }
  EXPECT_EQ(admission.submit(note(order, 1, "more")), Answer::kBusy) << "its own place it has not";
  for (const char* text : {"owner1", "owner2", "owner3"})
    EXPECT_EQ(admission.submit(note(order, 2, text)), Answer::kQueued);
  EXPECT_THAT(displaced, ElementsAre(7, 6, 5));
  EXPECT_EQ(admission.waiting(), 8u);
  EXPECT_EQ(admission.submit(note(order, 2, "owner4")), Answer::kQueued);
  EXPECT_EQ(admission.submit(note(order, 2, "owner5")), Answer::kBusy) << "half and half";
  holder.release();
  EXPECT_THAT(order, ElementsAre("flood0", "owner1", "flood1", "owner2", "flood2", "owner3",
                                 "flood3", "owner4"));
}

// Flooders that come as fast as they can, with an owner that comes once in a while.
TEST(Admission, Fault149_TheOwnerIsNeverBusyBecauseOfFlooders) {
  Admission admission(1, 32);
  Holder holder(admission);
  std::vector<std::string> order;
  int busy = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::uint32_t flooder = 1 + static_cast<std::uint32_t>(i % 4);
    admission.submit({flooder, [] {}, nullptr});
    if (i % 2000 == 0) busy += admission.submit(note(order, 99, "owner")) == Answer::kBusy;
  }
  EXPECT_EQ(busy, 0);
  holder.release();
  EXPECT_EQ(order.size(), 5u);
}

TEST(Admission, Fault149_SlowJobsOfOneUidLeaveHalfOfTheSlots) {
  Admission admission(4, 16);
  std::promise<void> let_go;
  const auto released = let_go.get_future().share();
  std::atomic<int> inside{0}, most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      admission.submit({1,
                        [&] {
                          most = std::max(most.load(), ++inside);
                          released.wait();
                          --inside;
                        },
                        nullptr,
                        {},
                        true});
    });
  }
  while (admission.running() + admission.waiting() < 4) std::this_thread::yield();
  EXPECT_EQ(admission.running(), 2u);
  bool ran = false;
  EXPECT_EQ(admission.submit({2, [&] { ran = true; }, nullptr}), Answer::kRan);
  EXPECT_TRUE(ran);
  let_go.set_value();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(most, 2);
  EXPECT_EQ(admission.running() + admission.waiting(), 0u);
}

TEST(Admission, AnsweredJobsGiveTheirPlacesInAFullQueue) {
  Admission admission(1, 2);
  Holder holder(admission);
  std::vector<std::string> order;
  const auto answered = std::make_shared<std::atomic<bool>>(false);
  admission.submit({1, [&] { order.push_back("late"); }, answered});
  admission.submit(note(order, 1, "kept"));
  *answered = true;
  EXPECT_EQ(admission.submit(note(order, 2, "new")), Answer::kQueued);
  EXPECT_EQ(admission.waiting(), 2u);
  holder.release();
  EXPECT_THAT(order, ElementsAre("kept", "new"));
}

TEST(Admission, NeverMoreJobsInsideThanSlots) {
  Admission admission(3, 10000);
  std::atomic<int> inside{0}, most{0}, ran{0};
  const auto job = [&] {
    const int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::yield();
    --inside;
    ++ran;
  };
  std::vector<std::thread> threads;
  for (std::uint32_t uid = 0; uid < 6; ++uid) {
    threads.emplace_back([&, uid] {
      for (int i = 0; i < 500; ++i) admission.submit({uid, job, nullptr});
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ran, 3000);
  EXPECT_LE(most, 3);
  EXPECT_EQ(admission.running(), 0u);
}

struct ManualTimer {
  std::vector<std::function<void()>> tasks;
  Deadlines::Timer timer() {
    return [this](SteadyTime, std::function<void()> task) { tasks.push_back(std::move(task)); };
  }
  void fire() {
    for (auto& task : std::exchange(tasks, {})) task();
  }
};

TEST(Deadlines, LateRequestIsCalledOnceAndRemovedOneNever) {
  test::FakeClock clock;
  ManualTimer timer;
  const auto deadlines = std::make_shared<Deadlines>(clock, timer.timer());
  using namespace std::chrono_literals;
  int late = 0, removed = 0, early = 0;
  const auto first = deadlines->add(clock.now_steady() + 10ms, [&] { ++late; });
  const auto second = deadlines->add(clock.now_steady() + 10ms, [&] { ++removed; });
  const auto third = deadlines->add(clock.now_steady() + 60ms, [&] { ++early; });
  EXPECT_EQ(timer.tasks.size(), 1u) << "one timer entry serves all";
  deadlines->remove(second);
  clock.advance(20ms);
  timer.fire();
  timer.fire();
  EXPECT_EQ(late, 1);
  EXPECT_EQ(removed, 0);
  EXPECT_EQ(early, 0);
  deadlines->remove(first);
  deadlines->remove(third);
  timer.fire();
  EXPECT_TRUE(timer.tasks.empty()) << "no timer while nothing waits";
}

// A stopped gate answers no request.
TEST(Deadlines, NothingIsCalledAfterStop) {
  test::FakeClock clock;
  ManualTimer timer;
  const auto deadlines = std::make_shared<Deadlines>(clock, timer.timer());
  int late = 0;
  const auto entry = deadlines->add(clock.now_steady(), [&] { ++late; });
  deadlines->stop();
  clock.advance(std::chrono::seconds(1));
  timer.fire();
  EXPECT_EQ(late, 0);
  EXPECT_TRUE(timer.tasks.empty());
  deadlines->remove(entry);
}

}  // namespace
}  // namespace keyagent::gate
