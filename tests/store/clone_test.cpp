// SPDX-License-Identifier: Apache-2.0
#include "agent/store/clone.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "agent/store/agents.h"
#include "agent/store/credentials.h"
#include "agent/store/data_keys.h"
#include "agent/store/engine/database.h"
#include "agent/store/events.h"
#include "agent/store/records.h"
#include "agent/store/sealed_copies.h"
#include "agent/store/specifications.h"
#include "agent/store/users.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

Event of_counts(CloneCounts counts) {
  auto event = sample_event("instance.clone");
  event.text = std::to_string(counts.records);
  return event;
}

// From the parameter's engine to both.
class CloneStore : public BothTest {
 protected:
  std::unique_ptr<Store> empty(const std::string& engine) {
    if (engine == "postgresql") {
      if (!test::Postgres::missing().empty()) return nullptr;
      return std::make_unique<Store>(Options{test::Postgres::shared().new_database()});
    }
    return std::make_unique<Store>(
        Options{"sqlite://" + (folder_.path() / (std::to_string(copies_++) + ".db")).string()});
  }
  void put(const std::string& specification, const std::string& id) {
    ASSERT_EQ(store()
                  .records()
                  .put({specification, id, "kid-" + specification, 0, "e " + id, "ada", kNow}, {})
                  .outcome,
              RecordPut::Outcome::kDone);
  }
  void fill(int records) {
    for (const std::string name : {"cards", "pay"}) {
      ASSERT_TRUE(store().specifications().add({name, kAwkward, "ada", "bob", kNow, kNow, 1},
                                               sample_event()));
      ASSERT_TRUE(store().data_keys().add({"kid-" + name, name, R"({"instance":"berlin"})", kNow}));
      for (int i = 0; i < records; ++i) put(name, std::to_string(i));
    }
  }

  int copies_ = 0;
};
KEYAGENT_ON_BOTH(CloneStore);

TEST_P(CloneStore, X12_HasTheSameDataOnEitherDatabase) {
  fill(501);  // more than one page of each
  store().agents().add(sample_agent("web1"));
  ASSERT_TRUE(store().data_keys().close("kid-pay"));
  for (const char* engine : {"sqlite", "postgresql"}) {
    const auto copy = empty(engine);
    if (!copy) GTEST_SKIP() << test::Postgres::missing() << " is not installed";
    const auto counts = copy->clone({url_, "KID"}, of_counts);
    EXPECT_EQ(counts.specifications, 2);
    EXPECT_EQ(counts.data_keys, 2);
    EXPECT_EQ(counts.records, 1002);
    EXPECT_EQ(copy->cloned_from(), "KID");
    EXPECT_EQ(copy->specifications().find("pay")->access, kAwkward);
    EXPECT_EQ(copy->specifications().find("pay")->changed, kNow);
    EXPECT_TRUE(copy->data_keys().list("pay").at(0).closed);
    EXPECT_FALSE(copy->data_keys().list("cards").at(0).closed);
    for (const std::string name : {"cards", "pay"}) {
      const auto all = store().records().list(name, "", 10'000),
                 found = copy->records().list(name, "", 10'000);
      ASSERT_EQ(found.size(), 501u);
      for (std::size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].id, all[i].id);
        EXPECT_EQ(found[i].version, all[i].version);
        EXPECT_EQ(found[i].changed, all[i].changed);
      }
      EXPECT_EQ(copy->records().find(name, "500")->envelope, "e 500");
    }
    EXPECT_TRUE(copy->agents().all().empty());
    ASSERT_EQ(copy->events().list(0, 10).size(), 1u);  // its own, and none of the source's
    EXPECT_EQ(copy->events().list(0, 10).at(0).text, "1002");
  }
}

TEST_P(CloneStore, X12_HasTheCredentialsWithoutTheirAssignments) {
  const Record value{kCredentialData, "db", "kid-1", 0, "e", "ada", kNow};
  ASSERT_TRUE(store().specifications().add({kCredentialData, "[]", "ada", "ada", kNow, kNow, 1},
                                           sample_event()));
  ASSERT_TRUE(store().data_keys().add({"kid-1", kCredentialData, "{}", kNow}));
  store().credentials().put(sample_credential("db"), &value);
  store().credentials().put(sample_credential("db"), &value);
  store().credentials().put(sample_credential("blind"), nullptr);
  store().sealed_copies().put({"db", 2, "host-1", "kid", {1}});
  const auto copy = empty(GetParam());
  // As one that was started, and not used, has it.
  ASSERT_TRUE(copy->specifications().add({kCredentialData, "[1]", "ada", "ada", kNow, kNow, 1},
                                         sample_event()));
  EXPECT_EQ(copy->clone({url_, "KID"}, of_counts).credentials, 2);
  const auto found = copy->credentials().all();
  ASSERT_EQ(found.size(), 2u);
  for (const auto& each : found) EXPECT_TRUE(each.agents.empty() && each.groups.empty());
  EXPECT_EQ(found[1].name, "db");
  EXPECT_EQ(found[1].version, 2);
  EXPECT_EQ(found[1].kid, "kid-1");
  EXPECT_EQ(copy->records().find(kCredentialData, "db")->envelope, "e");
  EXPECT_FALSE(copy->sealed_copies().find("db", "host-1", "kid"));
  EXPECT_EQ(copy->specifications().find(kCredentialData)->access, "[]");
}

TEST_P(CloneStore, X12_RefusesACredentialWhoseValueIsNotARecord) {
  store().credentials().put(sample_credential("db"), nullptr);
  Database database(Options{url_});
  database.write([](Sql& sql) {
    return sql.run("UPDATE credentials SET envelope = :envelope", {{"envelope", Bytes{1}}});
  });
  const auto copy = empty(GetParam());
  EXPECT_EQ(code_of([&] { copy->clone({url_, "KID"}, of_counts); }), Code::kConfiguration);
  EXPECT_TRUE(copy->credentials().all().empty());
}

TEST_P(CloneStore, X12_IsOfOneMomentWhileTheSourceIsUsed) {
  fill(600);
  std::atomic<bool> stop = false;
  std::atomic<int> written = 0;
  // "cards" gets each record before "pay" does.
  std::thread writer([&] {
    for (int i = 600; !stop; ++i) {
      put("cards", "x" + std::to_string(i));
      put("pay", "x" + std::to_string(i));
      ++written;
    }
  });
  std::unique_ptr<Store> copy;
  int before = 0;
  do {  // until something was written meanwhile
    copy = empty(GetParam());
    before = written;
    copy->clone({url_, "KID"}, of_counts);
  } while (written == before);
  stop = true;
  writer.join();
  const auto cards = copy->records().list("cards", "", 100'000).size();
  const auto pay = copy->records().list("pay", "", 100'000).size();
  EXPECT_TRUE(cards == pay || cards == pay + 1) << cards << " and " << pay;
}

TEST_P(CloneStore, X12_NeedsAnEmptyStoreAndOneOfThisProgramsAsItsSource) {
  fill(1);
  EXPECT_EQ(code_of([&] { store().clone({url_, "KID"}, of_counts); }), Code::kExists);
  const auto copy = empty(GetParam());
  EXPECT_EQ(code_of([&] {
              copy->clone({"sqlite:///nowhere/x.db", "KID"}, of_counts);
            }),
            Code::kConfiguration);
  EXPECT_FALSE(std::filesystem::exists("/nowhere"));
  const auto foreign = folder_.path() / "foreign.db";
  std::ofstream(foreign).close();
  std::filesystem::permissions(foreign, std::filesystem::perms(0600));
  EXPECT_EQ(code_of([&] {
              copy->clone({"sqlite://" + foreign.string(), "KID"}, of_counts);
            }),
            Code::kIntegrity);
  EXPECT_FALSE(copy->cloned_from());
  copy->clone({url_, "KID"}, of_counts);
  EXPECT_EQ(code_of([&] { copy->clone({url_, "KID"}, of_counts); }), Code::kExists);
}

TEST_P(CloneStore, X12_UsersComeWhenTheyAreAskedFor) {
  fill(0);
  store().users().add({"ada", "admin", "$argon2id$", "", false});
  const auto without = empty(GetParam()), with = empty(GetParam());
  without->clone({url_, "KID"}, of_counts);
  EXPECT_FALSE(without->users().find("ada"));
  EXPECT_EQ(with->clone({url_, "KID", true}, of_counts).users, 1);
  EXPECT_EQ(with->users().find("ada")->password, "$argon2id$");
}

}  // namespace
}  // namespace keyagent::store
