// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/base/disk.h"
#include "agent/store/agents.h"
#include "agent/store/audit_checkpoints.h"
#include "agent/store/certificates.h"
#include "agent/store/challenges.h"
#include "agent/store/credentials.h"
#include "agent/store/data_keys.h"
#include "agent/store/events.h"
#include "agent/store/logins.h"
#include "agent/store/peers.h"
#include "agent/store/records.h"
#include "agent/store/reencryptions.h"
#include "agent/store/rekeys.h"
#include "agent/store/schema.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/settings.h"
#include "agent/store/specifications.h"
#include "agent/store/tasks.h"
#include "agent/store/users.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

// What a next release might add.
const Migration kMore = {"ALTER TABLE agents ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",
                         "CREATE TABLE extra (name TEXT PRIMARY KEY)"};
const Migration kBroken = {"CREATE TABLE half (name TEXT PRIMARY KEY)", "CREATE NONSENSE"};

class SchemaTest : public BothTest {
 protected:
  std::vector<Migration> with(const Migration& step) const {
    std::vector<Migration> steps(migrations().begin(), migrations().end());
    steps.push_back(step);
    return steps;
  }
  int version_of(Database& database) const {
    return database.read([](Sql& sql) { return schema_version(sql); });
  }
};
KEYAGENT_ON_BOTH(SchemaTest);

TEST_P(SchemaTest, MissingMigrationIsRunOnceAndRowsStay) {
  store().agents().add(sample_agent("host-1"));
  Database database(Options{url_});
  const int before = version_of(database);
  bring_up(database, with(kMore));
  bring_up(database, with(kMore));
  EXPECT_EQ(version_of(database), before + 1);
  EXPECT_EQ(
      database.read([](Sql& sql) { return sql.first<std::string>("SELECT note FROM agents"); }),
      "none");
  EXPECT_TRUE(store().agents().find("host-1"));  // a replica of the version before continues
}

TEST_P(SchemaTest, MigrationThatFailsLeavesNothing) {
  Database database(Options{url_});
  const int before = version_of(database);
  EXPECT_THROW(bring_up(database, with(kBroken)), Error);
  EXPECT_EQ(version_of(database), before);
  database.write([](Sql& sql) { sql.run("CREATE TABLE half (name TEXT PRIMARY KEY)"); });
}

TEST_P(SchemaTest, NewerSchemaIsRefusedAndUnchanged) {
  Database database(Options{url_});
  bring_up(database, with(kMore));
  const int newer = version_of(database);
  try {
    open();
    FAIL() << "was opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kIntegrity);
    EXPECT_NE(std::string(error.what()).find("schema " + std::to_string(newer)), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(version_of(database), newer);
}

// schema_1.sql: a store as the version before tasks left it, a row in each table.
class SchemaOne : public SchemaTest {
 protected:
  void SetUp() override {
    choose();
    if (IsSkipped()) return;
    Database database(Options{url_});
    const auto bytes = read_file(STORE_SCHEMA_1);
    const std::string text(as_text(bytes));
    database.write([&](Sql& sql) {
      for (std::size_t from = 0, end = 0; (end = text.find(";\n", from)) != std::string::npos;
           from = end + 2)
        sql.run(schema_words(sql.engine(), text.substr(from, end - from)));
    });
    ASSERT_EQ(version_of(database), 1);
  }
};
KEYAGENT_ON_BOTH(SchemaOne);

TEST_P(SchemaOne, RowsAreReadAfterTheMigrationAndTasksAreTaken) {
  if (IsSkipped()) return;
  store_ = open();
  EXPECT_TRUE(store().describe().ends_with(", schema " + std::to_string(migrations().size())));
  EXPECT_EQ(store().settings().get("id"), "keys-1");
  const auto agent = store().agents().find("host-1").value();
  EXPECT_EQ(agent.auth_kid, "auth-host-1");
  EXPECT_EQ(agent.host, kAwkward);
  EXPECT_EQ(agent.groups, (std::vector<std::string>{"web", kAwkward, ""}));
  EXPECT_EQ(agent.revision, 7);
  EXPECT_EQ(store().users().find("ada")->role, "operator");
  EXPECT_EQ(store().credentials().find("db")->version, 2);
  EXPECT_EQ(store().sealed_copies().find("db", "host-1", "kid-1")->envelope, (Bytes{1, 2, 3}));
  auto rekey = sample_rekey("host-1");
  rekey.id = 1;
  expect_equal(store().rekeys().find(1).value(), rekey);
  EXPECT_EQ(store().certificates().list("host-1").at(0).serial, "0a1b");
  EXPECT_FALSE(store().logins().use({9}, kNow, std::chrono::hours(1)));  // sessions end
  EXPECT_TRUE(use_token(store(), {8}, "host-2", kNow));
  EXPECT_EQ(store().challenges().find("challenge-1", kNow)->data, "{}");
  EXPECT_EQ(store().events().list(0, 10).at(0).action, "before");
  EXPECT_EQ(store().events().add(sample_event()),
            3);  // numbering continues, after the event of the token
  EXPECT_EQ(store().rekeys().add(rekey), 2);
  EXPECT_TRUE(store().tasks().add(sample_task("1"), 10, sample_event()));
  EXPECT_EQ(store().tasks().claim(sample_claim())->id, "1");
  EXPECT_TRUE(store().specifications().all().empty());
  EXPECT_TRUE(store().data_keys().add({"k1", "pay", "{}", kNow}));
  EXPECT_EQ(store().records().put({"pay", "1", "k1", 0, "e1", "ada", kNow}, 0).version, 1);
  EXPECT_TRUE(store().peers().all().empty());
  EXPECT_TRUE(store().peers().use_nonce("peer", "1", kNow));
}

// A store as the version before records left it.
class SchemaThree : public SchemaTest {
 protected:
  void SetUp() override {
    choose();
    if (IsSkipped()) return;
    Database database(Options{url_});
    bring_up(database, migrations().first(3));
    ASSERT_EQ(version_of(database), 3);
    database.write([](Sql& sql) {
      sql.run("INSERT INTO settings (name, value) VALUES ('id', 'keys-3')");
      sql.run("INSERT INTO login_failures (name, failures, expires) VALUES ('ada', 4, :at)",
              {{"at", kNow + std::chrono::hours(1)}});
    });
  }
};
KEYAGENT_ON_BOTH(SchemaThree);

TEST_P(SchemaThree, RowsAreReadAfterTheMigrationAndRecordsAreKept) {
  if (IsSkipped()) return;
  store_ = open();
  EXPECT_EQ(store().settings().get("id"), "keys-3");
  EXPECT_TRUE(store().reencryptions().all().empty());
  EXPECT_TRUE(store().data_keys().add({"k1", "pay", "{}", kNow}));
  EXPECT_EQ(store().records().put({"pay", "1", "k1", 0, "e1", "ada", kNow}, 0).version, 1);
  EXPECT_EQ(store().records().count_by_kid("pay").at(0).second, 1);
}

// A store that keeps the newest checkpoint alone.
class SchemaTwelve : public SchemaTest {
 protected:
  void SetUp() override {
    choose();
    if (IsSkipped()) return;
    Database database(Options{url_});
    bring_up(database, migrations().first(12));
    ASSERT_EQ(version_of(database), 12);
    database.write([](Sql& sql) {
      sql.run(
          "INSERT INTO audit_checkpoints (agent, enrolled, size, hash, kid, body, noted) "
          "VALUES ('host-1', :enrolled, 7, 'hash', 'kid', '{}', :at)",
          {{"enrolled", sample_agent("host-1").enrolled}, {"at", kNow}});
    });
  }
};
KEYAGENT_ON_BOTH(SchemaTwelve);

TEST_P(SchemaTwelve, CheckpointsStayAfterTheMigrationAndDaysAreKept) {
  if (IsSkipped()) return;
  store_ = open();
  auto agent = sample_agent("host-1");
  agent.state = "trusted";
  store().agents().add(agent);
  auto checkpoint = store().audit_checkpoints().find("host-1", agent.enrolled).value();
  EXPECT_EQ(checkpoint.size, 7);
  EXPECT_TRUE(store().audit_checkpoints().days("host-1").empty());
  checkpoint.size = 8;
  EXPECT_EQ(store().audit_checkpoints().keep(checkpoint).value().size, 8);
  EXPECT_EQ(store().audit_checkpoints().days("host-1").at(0).size, 8);
}

TEST_P(SchemaTest, DescriptionNamesDatabaseAndSchema) {
  const auto text = store().describe();
  EXPECT_TRUE(text.starts_with(std::string(GetParam()) + " ")) << text;
  EXPECT_TRUE(text.ends_with(", schema " + std::to_string(migrations().size()))) << text;
}

}  // namespace
}  // namespace keyagent::store
