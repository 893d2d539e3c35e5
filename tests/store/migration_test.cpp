#include <gtest/gtest.h>

#include "agent/store/schema.h"
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
  store().add_agent(sample_agent("host-1"));
  Database database(Options{url_});
  const int before = version_of(database);
  bring_up(database, with(kMore));
  bring_up(database, with(kMore));
  EXPECT_EQ(version_of(database), before + 1);
  EXPECT_EQ(database.read([](Sql& sql) {
    return sql.first("SELECT note FROM agents", {}, [](const Row& row) { return row.text(0); });
  }),
            "none");
  EXPECT_TRUE(store().agent("host-1"));  // a replica of the version before goes on
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

TEST_P(SchemaTest, DescriptionNamesDatabaseAndSchema) {
  const auto text = store().describe();
  EXPECT_TRUE(text.starts_with(std::string(GetParam()) + " ")) << text;
  EXPECT_TRUE(text.ends_with(", schema " + std::to_string(migrations().size()))) << text;
}

}  // namespace
}  // namespace keyagent::store
