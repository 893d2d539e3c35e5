// SPDX-License-Identifier: Apache-2.0
// What replicas know of each other: links, claims, wake-ups.

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>

#include "agent/store/agents.h"
#include "agent/store/links.h"
#include "agent/store/rekeys.h"
#include "agent/store/settings.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

constexpr auto kNever = std::chrono::hours(1);

// What a listener was called with.
class Heard {
 public:
  Store::NotificationHandler look() {
    return [this](const std::string& what) {
      const std::lock_guard lock(mutex_);
      heard_.push_back(what);
      changed_.notify_all();
    };
  }
  // Whether `what` comes; what came before it is forgotten.
  bool wait(const std::string& what, std::chrono::seconds limit = 30s) {
    std::unique_lock lock(mutex_);
    const auto end = std::chrono::steady_clock::now() + limit;
    for (;;) {
      while (!heard_.empty()) {
        const auto first = heard_.front();
        heard_.pop_front();
        if (first == what) return true;
      }
      if (changed_.wait_until(lock, end) == std::cv_status::timeout && heard_.empty()) return false;
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> heard_;
};

AgentLink sample_link(const std::string& agent, const std::string& replica) {
  return {.agent = agent,
          .replica = replica,
          .session = 0,
          .address = "192.0.2.1:4711",
          .tls_version = "TLSv1.3",
          .serial = "0a",
          .since = kNow,
          .seen = kNow,
          .news = 0};
}

class Replicas : public BothTest {};
KEYAGENT_ON_BOTH(Replicas);

TEST_P(Replicas, TheNewestLinkOfAnAgentIsItsOnlyOne) {
  store().agents().add(sample_agent("host-1"));
  const auto first = store().links().open(sample_link("host-1", "a"));
  EXPECT_TRUE(first.before.replica.empty());
  EXPECT_TRUE(store().links().record_heartbeat("host-1", first.now.session, kNow + 1s));
  const auto second = store().links().open(sample_link("host-1", "b"));
  EXPECT_EQ(second.before.replica, "a");
  EXPECT_EQ(second.before.address, "192.0.2.1:4711");
  EXPECT_EQ(second.before.seen, kNow + 1s);
  EXPECT_GT(second.now.session, first.now.session);
  EXPECT_FALSE(store().links().record_heartbeat("host-1", first.now.session, kNow + 2s));
  store().links().close("host-1", first.now.session);  // not its own anymore
  EXPECT_TRUE(store().links().status("a", {}).empty());
  const auto link_status = store().links().status("b", "host-1");
  ASSERT_EQ(link_status.size(), 1u);
  EXPECT_EQ(link_status[0].link.session, second.now.session);
  EXPECT_EQ(link_status[0].agent_state, "pending");
  EXPECT_EQ(link_status[0].auth_kid, "auth-host-1");
  EXPECT_EQ(link_status[0].next_auth_kid, "next-auth");
  EXPECT_EQ(store().agents().find("host-1")->last_seen, kNow + 1s);
  store().links().close("host-1", second.now.session);
  EXPECT_FALSE(store().links().record_heartbeat("host-1", second.now.session, kNow + 3s));
  EXPECT_TRUE(store().links().find("host-1")->replica.empty());
}

TEST_P(Replicas, GenerationOfAnAgentIsCountedAndALinkStartsAtTheCurrentOne) {
  store().agents().add(sample_agent("host-1"));
  store().links().bump_generation("host-1");  // no link yet: it will ask for itself
  const auto link = store().links().open(sample_link("host-1", "a")).now;
  store().links().bump_generation("host-1");
  EXPECT_EQ(store().links().status("a", "host-1").at(0).link.news, link.news + 1);
  EXPECT_EQ(store().links().open(sample_link("host-1", "b")).now.news, link.news + 1);
}

TEST_P(Replicas, AnOrderIsClaimedWithinTheLimitsOfItsBatch) {
  std::vector<Rekey> orders;
  for (int i = 0; i < 5; ++i) {
    auto order = sample_rekey("host-" + std::to_string(i));
    order.batch = "batch";
    order.state = "ordered";
    order.canary = i == 0;
    orders.push_back(order);
  }
  store().rekeys().add_batch(orders, "how", "two at once");
  EXPECT_EQ(store().settings().get("how"), "two at once");
  orders = store().rekeys().of_batch("batch");
  ASSERT_EQ(orders.size(), 5u);
  const auto claim = [&](int i) {
    return !store().rekeys().claim("batch", {orders[static_cast<std::size_t>(i)]}, 2, kNow).empty();
  };
  const auto move = [&](int i, const std::string& from, const std::string& to) {
    auto order = orders[static_cast<std::size_t>(i)];
    order.state = to;
    return store().rekeys().move(order, from);
  };
  EXPECT_FALSE(claim(1));  // the canary first
  EXPECT_TRUE(claim(0));
  EXPECT_FALSE(claim(0));
  EXPECT_FALSE(claim(1));
  EXPECT_TRUE(move(0, "sent", "confirmed"));
  EXPECT_TRUE(claim(1));
  EXPECT_TRUE(claim(2));
  EXPECT_FALSE(claim(3));  // two are in progress
  EXPECT_TRUE(move(1, "sent", "staged"));
  EXPECT_FALSE(claim(3));
  EXPECT_TRUE(move(1, "staged", "confirmed"));
  EXPECT_TRUE(claim(3));
  EXPECT_TRUE(move(2, "sent", "failed"));
  EXPECT_FALSE(claim(4));  // halted
}

TEST_P(Replicas, OrdersThatAreClaimedTogetherStayWithinTheLimitsOfTheirBatch) {
  std::vector<Rekey> orders;
  for (int i = 0; i < 6; ++i) {
    const auto id = "host-" + std::to_string(i);
    auto order = sample_rekey(id);
    order.batch = "batch";
    order.state = "ordered";
    order.canary = i == 0;
    orders.push_back(order);
    store().agents().add(sample_agent(id));
    if (i != 3) store().links().open(sample_link(id, i == 4 ? "b" : "a"));
  }
  store().rekeys().add_batch(orders, "how", "");
  EXPECT_EQ(store().rekeys().ordered_batches(), std::vector<std::string>{"batch"});
  const auto ids = [](const std::vector<Rekey>& rekeys) {
    std::vector<std::string> out;
    for (const auto& each : rekeys) out.push_back(each.agent);
    return out;
  };
  const auto ready = [&](bool canaries, std::size_t count = 9) {
    return store().rekeys().ready("batch", "a", canaries, count);
  };
  using Ids = std::vector<std::string>;
  EXPECT_EQ(ids(ready(true)), Ids{"host-0"});
  EXPECT_EQ(ids(ready(false)), (Ids{"host-0", "host-1", "host-2", "host-5"}));
  EXPECT_EQ(ids(ready(false, 2)), (Ids{"host-0", "host-1"}));
  EXPECT_EQ(store().rekeys().count("batch").open_canaries, 1);

  auto claimed = store().rekeys().claim("batch", ready(false), 2, kNow);
  EXPECT_EQ(ids(claimed), Ids{"host-0"});  // the canary first
  EXPECT_EQ(ids(store().rekeys().sent({})), Ids{"host-0"});
  EXPECT_TRUE(store().rekeys().sent("host-1").empty());
  claimed[0].state = "confirmed";
  EXPECT_TRUE(store().rekeys().move(claimed[0], "sent"));
  claimed = store().rekeys().claim("batch", ready(false), 2, kNow);
  EXPECT_EQ(ids(claimed), (Ids{"host-1", "host-2"}));
  EXPECT_EQ(store().rekeys().count("batch").under_way, 2);
  claimed[0].state = "failed";
  EXPECT_TRUE(store().rekeys().move(claimed[0], "sent"));
  EXPECT_EQ(store().rekeys().count("batch").failed, 1);
  EXPECT_TRUE(store().rekeys().claim("batch", ready(false), 2, kNow).empty());  // halted
}

TEST_P(Replicas, OrdersOfABatchAreAllThereOrNone) {
  auto order = sample_rekey("host-1");
  order.batch = "batch";
  store().settings().set("how", "taken");
  EXPECT_THROW(store().rekeys().add_batch({order, order}, "how", "else"), Error);
  EXPECT_TRUE(store().rekeys().of_batch("batch").empty());
}

TEST_P(Replicas, ANoticeIsHeardByTheListener) {
  Heard heard;
  store().listen(heard.look(), kNever);
  ASSERT_TRUE(heard.wait(""));  // everything, once it listens
  store().notify("host-1");
  EXPECT_TRUE(heard.wait("host-1"));
  store().stop_listening();
}

TEST_P(Replicas, WithoutANoticeEverythingIsCheckedAtEachPoll) {
  Heard heard;
  store().listen(heard.look(), 50ms);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(heard.wait(""));
  store().stop_listening();
}

TEST_P(Replicas, ALookThatFailsIsNotTheLast) {
  std::atomic<int> looks = 0;
  Heard heard;
  auto look = heard.look();
  store().listen(
      [&](const std::string& what) {
        look(what);
        if (++looks < 3) throw Error(Code::kPeer, "the database is away");
      },
      20ms);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(heard.wait(""));
  store().stop_listening();
}

class ReplicasOnPostgres : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto missing = test::Postgres::missing(); !missing.empty())
      GTEST_SKIP() << missing << " is not installed";
  }
  static std::string new_database() { return test::Postgres::shared().new_database(); }
  // The listener's thread has its connection: before, it checks everything instead.
  static bool hears(Store& from, Heard& heard) {
    for (int i = 0; i < 300; ++i) {
      from.notify("ping");
      if (heard.wait("ping", 1s)) return true;
    }
    return false;
  }
};

TEST_F(ReplicasOnPostgres, NoticesReachTheOtherReplicaAndTooLongOnesAreDropped) {
  const auto url = new_database();
  Store one({url, 1}), other({url, 1});
  Heard heard;
  other.listen(heard.look(), kNever);
  ASSERT_TRUE(hears(one, heard));
  one.notify("O'Brien\"; --");
  EXPECT_TRUE(heard.wait("O'Brien\"; --"));
  one.notify(std::string(9000, 'x'));  // more than PostgreSQL takes: lost, and nothing is thrown
  one.notify("after");
  EXPECT_TRUE(heard.wait("after"));
}

TEST_F(ReplicasOnPostgres, AfterALostConnectionEverythingIsCheckedAndNoticesAreHeardAgain) {
  const auto url = new_database();
  Store one({url, 1}), other({url, 1});
  Heard heard;
  other.listen(heard.look(), kNever);
  ASSERT_TRUE(hears(one, heard));
  test::Postgres::shared().query(url,
                                 "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                 "WHERE datname = current_database() AND query LIKE 'LISTEN%'");
  EXPECT_TRUE(heard.wait(""));
  EXPECT_TRUE(hears(one, heard));
}

TEST_F(ReplicasOnPostgres, AServerThatComesBackIsListenedToAgain) {
  test::Postgres own;
  const auto url = own.new_database();
  Store one({url, 1}), other({url, 1});
  Heard heard;
  other.listen(heard.look(), kNever);
  ASSERT_TRUE(hears(one, heard));
  own.kill();
  one.notify("lost");  // and nothing is thrown
  own.restart();
  EXPECT_TRUE(heard.wait(""));
  EXPECT_TRUE(hears(one, heard));
}

}  // namespace
}  // namespace keyagent::store
