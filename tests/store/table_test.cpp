// SPDX-License-Identifier: Apache-2.0
// A table's column list: the statements and the rows that come from it.

#include "agent/store/engine/table.h"

#include <gtest/gtest.h>

#include "agent/store/engine/database.h"
#include "tests/store/both.h"

namespace keyagent::store {
namespace {

struct Inner {
  std::string name;
};
struct Outer {
  Inner inner{};
  std::int64_t count = 0;
  std::optional<WallTime> when{};
  Names list{};
  bool on = false;
  std::string shown{};
};

constexpr Column<Outer> kOuterColumns[] = {
    column<&Outer::inner, &Inner::name>("name").key(),
    column<&Outer::count>("number"),
    column<&Outer::when>("at"),
    column<&Outer::list>("entries").fixed(),
    column<&Outer::on>("flag"),
    escaped_column<&Outer::shown>("shown"),
};
constexpr Table<Outer> kOuter{"outer_rows", kOuterColumns};

std::vector<std::string> names_of(const Bounds& bounds) {
  std::vector<std::string> names;
  for (const auto& each : bounds) names.push_back(each.name);
  return names;
}

TEST(Table, EachStatementListsItsColumns) {
  EXPECT_EQ(kOuter.select(), "SELECT name, number, at, entries, flag, shown FROM outer_rows ");
  EXPECT_EQ(kOuter.select({"shown"}),
            "SELECT name, number, at, entries, flag, '' FROM outer_rows ");
  EXPECT_EQ(kOuter.insert(),
            "INSERT INTO outer_rows (name, number, at, entries, flag, shown) "
            "VALUES (:name, :number, :at, :entries, :flag, :shown) ");
  EXPECT_EQ(kOuter.update(),
            "UPDATE outer_rows SET number = :number, at = :at, flag = :flag, shown = :shown");
  EXPECT_EQ(kOuter.update({"flag"}), "UPDATE outer_rows SET flag = :flag");
  EXPECT_EQ(kOuter.excluded(),
            "number = excluded.number, at = excluded.at, flag = excluded.flag, "
            "shown = excluded.shown");
  EXPECT_EQ(kOuter.list("o."), "o.name, o.number, o.at, o.entries, o.flag, o.shown");
}

TEST(Table, BindsWhatItsStatementsName) {
  const Outer row{.inner = {"a"}};
  EXPECT_EQ(names_of(kOuter.all(row)), (Names{"name", "number", "at", "entries", "flag", "shown"}));
  EXPECT_EQ(names_of(kOuter.changes(row, {"name"})),
            (Names{"name", "number", "at", "flag", "shown"}));
  EXPECT_EQ(names_of(kOuter.only(row, {"flag"})), Names{"flag"});
  EXPECT_EQ(names_of(kOuter.old(row)).front(), "old_name");
  EXPECT_TRUE(kOuter.equals_old().starts_with("name = :old_name AND number = :old_number AND "));
}

TEST(Table, ANameThatIsNotAColumnIsAnError) {
  EXPECT_THROW(kOuter.select({"absent"}), std::logic_error);
  EXPECT_THROW(kOuter.update({"absent"}), std::logic_error);
  EXPECT_THROW(kOuter.changes({}, {"absent"}), std::logic_error);
}

class TableOnBoth : public BothTest {
 protected:
  void SetUp() override {
    BothTest::SetUp();
    if (IsSkipped()) return;
    database_ = std::make_unique<Database>(Options{url_});
    database_->write([](Sql& sql) {
      sql.run(
          "CREATE TABLE outer_rows (name TEXT PRIMARY KEY, number BIGINT NOT NULL, at BIGINT, "
          "entries TEXT NOT NULL, flag BIGINT NOT NULL, shown TEXT NOT NULL)");
    });
  }
  std::unique_ptr<Database> database_;
};
KEYAGENT_ON_BOTH(TableOnBoth);

TEST_P(TableOnBoth, WhatIsWrittenIsRead) {
  const Outer row{.inner = {"a"},
                  .count = -7,
                  .when = WallTime(std::chrono::milliseconds(1'234)),
                  .list = {"x", "y"},
                  .on = true,
                  .shown = "\xff"};
  const auto read = database_->write([&](Sql& sql) {
    sql.run(kOuter.insert(), kOuter.all(row));
    sql.run(kOuter.insert(), kOuter.all({.inner = {"b"}}));
    return sql.all(kOuter.select() + "ORDER BY name", {}, kOuter);
  });
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read[0].inner.name, "a");
  EXPECT_EQ(read[0].count, -7);
  EXPECT_EQ(read[0].when, row.when);
  EXPECT_EQ(read[0].list, row.list);
  EXPECT_TRUE(read[0].on);
  EXPECT_EQ(read[0].shown, storable("\xff"));
  EXPECT_EQ(read[1].when, std::nullopt);
  EXPECT_FALSE(read[1].on);
}

TEST_P(TableOnBoth, AnUpdateLeavesFixedColumnsAndOtherRows) {
  database_->write([&](Sql& sql) {
    for (const auto* name : {"a", "b"})
      sql.run(kOuter.insert(), kOuter.all({.inner = {name}, .count = 1, .list = {"x"}}));
    const Outer changed{.inner = {"a"}, .count = 2, .list = {"y"}};
    EXPECT_EQ(sql.run(kOuter.update() + " WHERE name = :name", kOuter.changes(changed, {"name"})),
              1);
    const auto rows = sql.all(kOuter.select() + "ORDER BY name", {}, kOuter);
    EXPECT_EQ(rows.at(0).count, 2);
    EXPECT_EQ(rows.at(0).list, Names{"x"});
    EXPECT_EQ(rows.at(1).count, 1);
  });
}

}  // namespace
}  // namespace keyagent::store
