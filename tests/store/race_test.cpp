// SPDX-License-Identifier: Apache-2.0
// Replicas at the same database: each thread has its own store.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <numeric>
#include <set>
#include <thread>

#include "agent/base/error.h"
#include "agent/store/agents.h"
#include "agent/store/challenges.h"
#include "agent/store/credentials.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "agent/store/links.h"
#include "agent/store/rekeys.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/settings.h"
#include "agent/store/tasks.h"
#include "agent/store/users.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

constexpr int kReplicas = 8;

class Race : public BothTest {
 protected:
  // work(store, number of the replica) on all of them at once. What they throw fails the test.
  void race(const std::function<void(Store&, int)>& work) {
    std::barrier start(kReplicas);
    std::vector<std::unique_ptr<Store>> stores;
    for (int i = 0; i < kReplicas; ++i) stores.push_back(open(1));
    std::vector<std::jthread> threads;
    for (int replica = 0; replica < kReplicas; ++replica) {
      threads.emplace_back([&, replica] {
        start.arrive_and_wait();
        try {
          work(*stores[replica], replica);
        } catch (const std::exception& error) {
          ADD_FAILURE() << error.what();
        }
      });
    }
  }
  // How many of the attempts succeed.
  int winners(const std::function<bool(Store&, int)>& attempt) {
    std::atomic<int> count = 0;
    race([&](Store& own, int replica) { count += attempt(own, replica) ? 1 : 0; });
    return count;
  }
};
KEYAGENT_ON_BOTH(Race);

TEST_P(Race, OneOfManyUsesAnEnrollmentToken) {
  for (int round = 0; round < 5; ++round) {
    EnrollmentToken token;
    token.hash = random_bytes(32);
    token.expires = kNow;
    store().enrollments().add_token(token);
    EXPECT_EQ(
        winners([&](Store& own, int replica) {
          return use_token(own, token.hash, "host-" + std::to_string(replica), at(0)).has_value();
        }),
        1);
  }
}

TEST_P(Race, OneOfManyUpdatesAnAgentFromOneRevision) {
  store().agents().add(sample_agent("host-1"));
  for (int round = 0; round < 5; ++round) {
    const auto read = store().agents().find("host-1").value();
    std::atomic<int> winner = -1;
    EXPECT_EQ(winners([&](Store& own, int replica) {
                auto mine = read;
                mine.reason = std::to_string(replica);
                const bool won = own.agents().update(mine);
                if (won) winner = replica;
                return won;
              }),
              1);
    EXPECT_EQ(store().agents().find("host-1")->reason, std::to_string(winner));
    EXPECT_EQ(store().agents().find("host-1")->revision, read.revision + 1);
  }
}

TEST_P(Race, Fault159_AdminsWhoDisableEachOtherLeaveTwo) {
  for (int i = 0; i < kReplicas; ++i)
    store().users().add({"admin-" + std::to_string(i), "admin", "", std::to_string(i)});
  EXPECT_EQ(winners([&](Store& own, int replica) {
              const auto before = own.users().find("admin-" + std::to_string(replica)).value();
              auto after = before;
              after.disabled = true;
              try {
                return own.users().update(before, after, sample_event(), {"admin", 2}).has_value();
              } catch (const Error& error) {
                if (error.code() == Code::kKeyState) return false;
                throw;
              }
            }),
            kReplicas - 2);
}

TEST_P(Race, OneOfManyWritesASettingOnce) {
  std::atomic<int> winner = -1;
  EXPECT_EQ(winners([&](Store& own, int replica) {
              const bool won = own.settings().set_once("id", std::to_string(replica));
              if (won) winner = replica;
              return won;
            }),
            1);
  EXPECT_EQ(store().settings().get("id"), std::to_string(winner));
}

TEST_P(Race, OneOfManyAddsAnAgentOrMovesAChallengeOrARekey) {
  EXPECT_EQ(winners([](Store& own, int) { return own.agents().add(sample_agent("host-1")); }), 1);
  Challenge challenge{
      .id = "1", .kind = "enrolment", .agent = "", .state = "asked", .data = "", .expires = kNow};
  store().challenges().add(challenge, at(0));
  challenge.state = "answered";
  EXPECT_EQ(winners([&](Store& own, int) { return own.challenges().move(challenge, "asked"); }), 1);
  auto rekey = sample_rekey("host-1");
  rekey.id = store().rekeys().add(rekey);
  rekey.state = "sent";
  EXPECT_EQ(winners([&](Store& own, int) { return own.rekeys().move(rekey, "ordered"); }), 1);
}

TEST_P(Race, R11_EveryTaskIsTakenOnceByManyConcurrentTakers) {
  constexpr int kTasks = 500, kThreads = 4;
  for (int i = 0; i < kTasks; ++i)
    store().tasks().add(sample_task(std::to_string(i), i % 2 == 0 ? "group:web" : "group:db"),
                        kTasks, sample_event());
  std::vector<std::unique_ptr<Store>> stores;
  for (int i = 0; i < 2; ++i) stores.push_back(open(kThreads));
  std::vector<std::vector<std::string>> taken(2 * kThreads);
  std::barrier start(2 * kThreads);
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < taken.size(); ++i) {
    threads.emplace_back([&, i] {
      auto claim = sample_claim("host-" + std::to_string(i));
      claim.targets = {"group:web", "group:db"};
      start.arrive_and_wait();
      try {
        while (const auto task = take_and_start(*stores[i % 2], claim))
          taken[i].push_back(task->id);
      } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::string> all;
  std::size_t count = 0;
  for (const auto& each : taken) {
    all.insert(each.begin(), each.end());
    count += each.size();
  }
  EXPECT_EQ(count, static_cast<std::size_t>(kTasks));
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kTasks));
  for (const auto& task : store().tasks().list({.count = kTasks}))
    EXPECT_EQ(task.attempt, 1) << task.id;
}

TEST_P(Race, OneOfManyMovesATaskOrSubmitsAKey) {
  auto task = sample_task("1");
  task.key = "once";
  std::atomic<int> submitted = 0;
  EXPECT_EQ(winners([&](Store& own, int replica) {
              auto mine = task;
              mine.id = std::to_string(replica);
              const auto added = own.tasks().add(mine, 10, sample_event());
              if (added) ++submitted;
              return added && added->id == mine.id;
            }),
            1);
  EXPECT_EQ(submitted, kReplicas);
  const auto read = store().tasks().list({}).at(0);
  EXPECT_EQ(winners([&](Store& own, int) { return own.tasks().move(read, sample_event("move")); }),
            1);
  const auto events = store().events().list(0, 100);
  EXPECT_EQ(std::count_if(events.begin(), events.end(),
                          [](const auto& each) { return each.action == "move"; }),
            1);
}

TEST_P(Race, NothingIsTakenAfterAPauseHasReturned) {
  for (int i = 0; i < 200; ++i)
    store().tasks().add(sample_task(std::to_string(i)), 1000, sample_event());
  std::atomic<std::int64_t> running = -1;
  race([&](Store& own, int replica) {
    if (replica == 0) {
      own.tasks().pause({"handler:deploy", "ada", kNow}, sample_event());
      running = own.tasks().count_running("handler:deploy");
      return;
    }
    auto claim = sample_claim();
    claim.agent = "replica-" + std::to_string(replica);
    while (take_and_start(own, claim)) continue;
  });
  EXPECT_EQ(store().tasks().count_running("all"), running);
}

TEST_P(Race, VersionsOfACredentialAreAllDifferent) {
  std::atomic<std::int64_t> sum = 0;
  race([&](Store& own, int) {
    sum += own.credentials().put(sample_credential("db"), nullptr).version;
  });
  EXPECT_EQ(sum, kReplicas * (kReplicas + 1) / 2);
  EXPECT_EQ(store().credentials().find("db")->version, kReplicas);
}

TEST_P(Race, CopyIsNeverLeftOfARemovedCredential) {
  for (int round = 0; round < 5; ++round) {
    const auto version = store().credentials().put(sample_credential("db"), nullptr).version;
    race([&](Store& own, int replica) {
      if (replica == 0)
        own.credentials().remove("db");
      else
        own.sealed_copies().put({"db", version, "host-1", "kid-" + std::to_string(replica), {1}});
    });
    EXPECT_TRUE(store().sealed_copies().census("host-1").empty());
  }
}

TEST_P(Race, EventsHaveNoGapsAndAppearInTheirOrder) {
  constexpr int kEach = 25;
  std::atomic<bool> done = false;
  std::vector<std::int64_t> seen;
  std::jthread reader([&] {
    bool last = false;
    for (std::int64_t after = 0; !last;) {
      last = done;
      for (const auto& event : store().events().list(after, 1000)) {
        seen.push_back(event.seq);
        after = event.seq;
      }
    }
  });
  race([&](Store& own, int replica) {
    for (int i = 0; i < kEach; ++i)
      own.events().add({.at = kNow,
                        .actor = std::to_string(replica),
                        .action = "test",
                        .subject = "",
                        .outcome = "done",
                        .text = ""});
  });
  done = true;
  reader.join();
  std::vector<std::int64_t> expected(kReplicas * kEach);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(seen, expected);
}

TEST_P(Race, ThreadsShareOneStoreWithFewerConnections) {
  std::vector<std::jthread> threads;
  const auto shared = open(2);
  for (int i = 0; i < kReplicas; ++i) {
    threads.emplace_back([&, i] {
      const auto name = std::to_string(i);
      for (int round = 0; round < 10; ++round) {
        shared->settings().set(name, std::to_string(round));
        EXPECT_EQ(shared->settings().get(name), std::to_string(round));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_P(Race, OneLinkOfAnAgentIsLeftAndEveryReplicaKnowsWhich) {
  store().agents().add(sample_agent("host-1"));
  std::vector<std::int64_t> sessions(kReplicas);
  race([&](Store& own, int replica) {
    AgentLink link;
    link.agent = "host-1";
    link.replica = std::to_string(replica);
    link.since = link.seen = kNow;
    sessions[static_cast<std::size_t>(replica)] = own.links().open(link).now.session;
  });
  EXPECT_EQ(winners([&](Store& own, int replica) {
              return own.links().record_heartbeat(
                  "host-1", sessions[static_cast<std::size_t>(replica)], kNow);
            }),
            1);
  std::sort(sessions.begin(), sessions.end());
  EXPECT_EQ(std::unique(sessions.begin(), sessions.end()), sessions.end());
  const auto left = store().links().find("host-1").value();
  EXPECT_EQ(left.session, sessions.back());
  EXPECT_EQ(store().links().status(left.replica, "host-1").size(), 1u);
}

TEST_P(Race, OneOfManyClaimsTheOnlyPlaceOfABatch) {
  for (int round = 0; round < 5; ++round) {
    const auto batch = "batch-" + std::to_string(round);
    std::vector<Rekey> orders(kReplicas, sample_rekey("host-1"));
    for (auto& order : orders) {
      order.batch = batch;
      order.state = "ordered";
      order.canary = false;
    }
    store().rekeys().add_batch(orders, batch, "");
    orders = store().rekeys().of_batch(batch);
    // Each has its own agent: the rows that they change are different ones.
    EXPECT_EQ(winners([&](Store& own, int replica) {
                const auto& order = orders[static_cast<std::size_t>(replica)];
                return !own.rekeys().claim(batch, {order}, 1, kNow).empty();
              }),
              1);
  }
}

class FirstStart : public BothTest {
  void SetUp() override { choose(); }
};
KEYAGENT_ON_BOTH(FirstStart);

TEST_P(FirstStart, ManyStoresMakeTheSchemaOfAnEmptyDatabaseTogether) {
  if (IsSkipped()) return;
  std::barrier start(kReplicas);
  std::atomic<int> ready = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kReplicas; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      try {
        open(1)->events().add({.at = kNow,
                               .actor = "",
                               .action = "start",
                               .subject = "",
                               .outcome = "done",
                               .text = ""});
        ++ready;
      } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ready, kReplicas);
  EXPECT_EQ(open()->events().list(0, 100).size(), static_cast<std::size_t>(kReplicas));
}

}  // namespace
}  // namespace keyagent::store
