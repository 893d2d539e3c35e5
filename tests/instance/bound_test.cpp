// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 158: a real agent and a real instance whose store someone writes to behind its back.
// Nothing is ever given as what it is not.

#include "agent/envelope/envelope.h"
#include "agent/instance/fleet/agents.h"
#include "agent/store/agents.h"
#include "agent/store/engine/database.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/store.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class BoundTest : public WholeSystem {
 protected:
  BoundTest() {
    bring_up();
    enrol();
  }
  void sql(const std::string& statement) const {
    store::Database database(store::Options{instance_.store_url});
    database.write([&](store::Sql& each) { each.run(statement); });
  }
  Json copies(const std::string& name) {
    return instance_.json("alice", "credential list " + name).at("credentials").at(0).at("copies");
  }
  void expect_refused(const std::string& name, const std::string& never) {
    const auto result = host_.keyagent("credential get " + name);
    EXPECT_EQ(result.status, 6) << result.output;
    EXPECT_THAT(result.output, Not(HasSubstr(never)));
  }
  // Envelopes of the same agent under the same key: only what is bound tells them apart.
  void swap(const std::string& table, const std::string& name_column) {
    const std::string of = "(SELECT envelope FROM swapped WHERE name = ";
    sql("CREATE TABLE swapped AS SELECT " + name_column + " AS name, envelope FROM " + table);
    sql("UPDATE " + table + " SET envelope = " + of + "'high') WHERE " + name_column + " = 'low'");
    sql("UPDATE " + table + " SET envelope = " + of + "'low') WHERE " + name_column + " = 'high'");
    sql("DROP TABLE swapped");
  }
};

TEST_F(BoundTest, Fault158_SwappedSealedCopiesNeverReturnAnotherNamesValue) {
  put("low", "l0w");
  put("high", "h1gh");
  ASSERT_TRUE(gives("low", "l0w") && gives("high", "h1gh"));
  swap("sealed_copies", "credential");
  expect_refused("low", "h1gh");
  expect_refused("high", "l0w");
  EXPECT_FALSE(copies("low").at(0).at("bound").get<bool>());
  // Which the instance seals again, from the values, when it is asked.
  EXPECT_EQ(instance_.keyagent("alice", "credential reseal --all").status, 0);
  EXPECT_TRUE(gives("low", "l0w") && gives("high", "h1gh"));
}

TEST_F(BoundTest, Fault158_SwappedValuesAreSealedToNoAgent) {
  put("low", "l0w");
  put("high", "h1gh");
  ASSERT_TRUE(gives("low", "l0w") && gives("high", "h1gh"));
  swap("records", "id");
  sql("DELETE FROM sealed_copies");
  for (const std::string name : {"low", "high"}) {
    const auto result = host_.keyagent("credential get " + name);
    EXPECT_NE(result.status, 0);
    EXPECT_THAT(result.output, Not(HasSubstr("l0w")));
    EXPECT_THAT(result.output, Not(HasSubstr("h1gh")));
  }
}

TEST_F(BoundTest, Fault158_ARowThatIsRolledBackOrCopiedIsRefused) {
  put("main", "first");
  ASSERT_TRUE(gives("main", "first"));
  sql("CREATE TABLE old AS SELECT * FROM sealed_copies WHERE credential = 'main'");
  sql("CREATE TABLE old_values AS SELECT * FROM records WHERE id = 'main'");
  put("main", "second");
  ASSERT_TRUE(gives("main", "second"));
  // The envelope of before as the version of now.
  sql("UPDATE sealed_copies SET envelope = (SELECT envelope FROM old) WHERE credential = 'main'");
  expect_refused("main", "first");
  // The whole row of before, with the version.
  sql("UPDATE sealed_copies SET version = 1 WHERE credential = 'main'");
  sql("UPDATE credentials SET version = 1 WHERE name = 'main'");
  expect_refused("main", "first");
  // The value of before as that of the version of now.
  sql("UPDATE credentials SET version = 2 WHERE name = 'main'");
  sql("UPDATE records SET envelope = (SELECT envelope FROM old_values), "
      "kid = (SELECT kid FROM old_values) WHERE id = 'main'");
  sql("DELETE FROM sealed_copies");
  const auto result = host_.keyagent("credential get main");
  EXPECT_NE(result.status, 0);
  EXPECT_THAT(result.output, Not(HasSubstr("first")));
}

TEST_F(BoundTest, Fault158_EnvelopesOfBeforeAreMarkedRefusedAndSealedAgainAtTheStart) {
  put("main", "s3cr3t");
  ASSERT_TRUE(gives("main", "s3cr3t"));
  store::Store store(store::Options{instance_.store_url});
  const auto key = instance::transport_of(store.agents().find("test").value(), false);
  const std::string_view text = R"({"token":"unbound"})";
  const auto unbound = envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm,
                                          SecretBytes(text.begin(), text.end()));
  ASSERT_TRUE(store.sealed_copies().put({"main", 1, "test", key.kid.text(), unbound}));
  EXPECT_FALSE(copies("main").at(0).at("bound").get<bool>());
  EXPECT_THAT(instance_.keyagent("alice", "credential list").output, HasSubstr("1 unbound"));
  expect_refused("main", "\"unbound\"");
  instance_.stop();
  instance_.start();
  EXPECT_TRUE(gives("main", "s3cr3t"));
  EXPECT_TRUE(copies("main").at(0).at("bound").get<bool>());
}

TEST_F(BoundTest, Fault158_AnAuthorBindsABlindCredentialAndNothingElseIsTaken) {
  put("unseen", "of its author", " --blind");
  ASSERT_TRUE(gives("unseen", "of its author"));
  EXPECT_TRUE(copies("unseen").at(0).at("bound").get<bool>());
  put("unseen", "again", " --blind");
  EXPECT_TRUE(gives("unseen", "again"));
  // Under another name it is not taken, and where it got there it is not opened.
  put("other", "0ther", " --blind");
  ASSERT_TRUE(gives("other", "0ther"));
  swap("sealed_copies", "credential");
  sql("UPDATE sealed_copies SET envelope = (SELECT envelope FROM sealed_copies "
      "WHERE credential = 'unseen') WHERE credential = 'other'");
  expect_refused("other", "again");
  const auto resealed = instance_.keyagent("alice", "credential reseal --all");
  EXPECT_EQ(resealed.status, 7);
  EXPECT_THAT(resealed.output, HasSubstr("blind, must be sealed again by its author: other"));
}

}  // namespace
}  // namespace keyagent::test
