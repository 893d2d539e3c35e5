// SPDX-License-Identifier: Apache-2.0
// A server that goes away, under a store that continues.

#include "tests/support/postgres.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/store/events.h"
#include "agent/store/schema.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

class PostgresStore : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto missing = test::Postgres::missing(); !missing.empty())
      GTEST_SKIP() << missing << " is not installed";
    url_ = server().new_database();
  }
  static test::Postgres& server() { return test::Postgres::shared(); }
  // Ends every other connection to the test's database.
  void cut() const {
    server().query(url_,
                   "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                   "WHERE datname = current_database() AND pid <> pg_backend_pid()");
  }
  static void end_own_connection(Sql& sql) {
    sql.exists("SELECT pg_terminate_backend(pg_backend_pid())");
  }
  static Event sample_event() {
    return {.at = kNow, .actor = "", .action = "", .subject = "", .outcome = "done", .text = ""};
  }

  std::string url_;
};

TEST_F(PostgresStore, LostConnectionsAreReplacedWithoutAnError) {
  Store store({url_, 2});
  for (int round = 0; round < 3; ++round) {
    cut();
    EXPECT_EQ(store.events().add(sample_event()), round + 1);
    cut();
    EXPECT_EQ(store.events().list(0, 10).size(), static_cast<std::size_t>(round + 1));
  }
}

TEST_F(PostgresStore, TransactionThatLosesItsConnectionIsRunOnceMore) {
  Database database(Options{url_, 1});
  bring_up(database, migrations());
  int runs = 0;
  const auto number = database.write([&](Sql& sql) {
    const auto next = sql.next_number("events");
    if (++runs == 1) end_own_connection(sql);
    return next;
  });
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(number, 1);
  EXPECT_EQ(code_of([&] { database.write([&](Sql& sql) { end_own_connection(sql); }); }),
            Code::kPeer);
}

TEST_F(PostgresStore, ConnectionLostInTheCommitIsReportedAsUnknownAndNotRepeated) {
  Store store({url_, 1});
  server().query(url_,
                 "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM "
                 "pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'");
  server().query(url_,
                 "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON events DEFERRABLE INITIALLY "
                 "DEFERRED FOR EACH ROW EXECUTE FUNCTION die()");
  try {
    store.events().add(sample_event());
    FAIL() << "was committed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kPeer);
    EXPECT_NE(std::string(error.what()).find("unknown"), std::string::npos) << error.what();
  }
  server().query(url_, "DROP TRIGGER die ON events");
  EXPECT_EQ(store.events().add(sample_event()), 1);
}

TEST_F(PostgresStore, DeadlockIsResolvedByRunningTheLoserAgain) {
  Database database(Options{url_, 2});
  bring_up(database, migrations());
  std::atomic<int> locked = 0, runs = 0;
  const auto both = [&](const char* first, const char* second) {
    database.write([&](Sql& sql) {
      sql.next_number(first);
      ++locked;
      if (++runs <= 2)
        while (locked < 2) std::this_thread::yield();
      sql.next_number(second);
    });
  };
  const auto code = [&](const char* first, const char* second) {
    EXPECT_EQ(code_of([&] { both(first, second); }), Code::kOk);
  };
  std::thread other([&] { code("events", "rekeys"); });
  code("rekeys", "events");
  other.join();
  EXPECT_GE(runs, 3);
  EXPECT_EQ(database.write([](Sql& sql) { return sql.next_number("events"); }), 3);
}

TEST_F(PostgresStore, ServerThatDiesUnderLoadIsPeerUntilItIsBackAndNothingAnsweredIsLost) {
  test::Postgres own;
  Store store({own.new_database(), 4});
  std::atomic<bool> stop = false;
  std::atomic<int> answered = 0, unreachable = 0, healed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      bool failed = false;
      while (!stop || !failed || healed < 4) {
        const auto code = code_of([&] { store.events().add(sample_event()); });
        if (code == Code::kOk) {
          ++answered;
          if (failed && healed < 4) ++healed;
        } else {
          EXPECT_EQ(code, Code::kPeer);
          ++unreachable;
          failed = true;
          std::this_thread::sleep_for(std::chrono::milliseconds(10));  // paces: it tries again
        }
      }
    });
  }
  while (answered < 20) std::this_thread::yield();
  own.kill();
  while (unreachable < 8) std::this_thread::yield();
  EXPECT_EQ(code_of([&] { store.events().list(0, 1); }), Code::kPeer);
  own.restart();
  stop = true;
  for (auto& thread : threads) thread.join();
  const auto kept = static_cast<int>(store.events().list(0, 1'000'000).size());
  EXPECT_GE(kept, answered);
  EXPECT_LE(kept, answered + 4);  // a commit that was cut off may have been done, one a connection
}

TEST_F(PostgresStore, UnreachableServerIsAPeerError) {
  try {
    Store store({"postgresql://keyagent@%2Fnone/x", 1});
    FAIL() << "was opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kPeer);
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos) << error.what();
  }
}

TEST_F(PostgresStore, DatabaseThatKeepsNoUtf8IsRefused) {
  server().query(url_, "CREATE DATABASE bytes ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0");
  const auto url = url_.substr(0, url_.rfind('/')) + "/bytes";
  EXPECT_EQ(code_of([&] { Store store({url, 1}); }), Code::kConfiguration);
}

TEST_F(PostgresStore, BackupNamesTheToolThatDoesIt) {
  Store store({url_, 1});
  try {
    store.backup("/tmp/never");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("pg_dump"), std::string::npos);
  }
}

TEST_F(PostgresStore, TextIsComparedByBytes) {
  Store store({url_, 1});
  EXPECT_EQ(
      server().query(url_,
                     "SELECT count(*) FROM information_schema.columns WHERE table_schema = "
                     "'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"),
      "0\n");
}

}  // namespace
}  // namespace keyagent::store
