// SPDX-License-Identifier: Apache-2.0
#include "agent/store/credentials.h"

#include <gtest/gtest.h>

#include "agent/store/data_keys.h"
#include "agent/store/engine/database.h"
#include "agent/store/records.h"
#include "agent/store/rekeys.h"
#include "agent/store/sealed_copies.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using Census = std::vector<std::pair<std::string, std::int64_t>>;

class Credentials : public BothTest {};
KEYAGENT_ON_BOTH(Credentials);

TEST_P(Credentials, VersionsCountUpAndTheNewestIsRead) {
  auto credential = sample_credential(kAwkward);
  EXPECT_EQ(store().credentials().put(credential, nullptr).version, 1);
  credential.version = 1;
  expect_equal(store().credentials().find(kAwkward).value(), credential);
  credential.type = "ssh-key";
  credential.agents.clear();
  credential.changed_by = "ada";
  // A version that another one has already is not taken; the next one is.
  EXPECT_EQ(store().credentials().put(credential, nullptr).outcome, RecordPut::Outcome::kMoved);
  EXPECT_EQ(store().credentials().find(kAwkward)->type, "password");
  credential.version = 2;
  EXPECT_EQ(store().credentials().put(credential, nullptr).version, 2);
  expect_equal(store().credentials().find(kAwkward).value(), credential);
  ASSERT_EQ(store().credentials().all().size(), 1u);
  expect_equal(store().credentials().all()[0], credential);
  EXPECT_FALSE(store().credentials().find("none"));
}

TEST_P(Credentials, AssignmentChangesWhoGetsItAndNothingElse) {
  auto credential = sample_credential("db");
  store().credentials().put(credential, nullptr);
  EXPECT_TRUE(store().credentials().assign("db", {kAwkward}, {}));
  EXPECT_FALSE(store().credentials().assign("none", {}, {}));
  credential.version = 1;
  credential.agents = {kAwkward};
  credential.groups.clear();
  expect_equal(store().credentials().find("db").value(), credential);
}

// What one put holds, as its record.
class Values : public BothTest {
 protected:
  void SetUp() override {
    BothTest::SetUp();
    if (IsSkipped()) return;
    for (const char* kid : {"kid-1", "kid-2"})
      ASSERT_TRUE(store().data_keys().add({kid, kCredentialData, "{}", kNow}));
  }
  static Record value(const std::string& kid = "kid-1") {
    return {kCredentialData, "db", kid, 0, "value under " + kid, "ada", kNow};
  }
  RecordPut put(const Record* value) { return store().credentials().put(credential_, value); }
  std::optional<Record> kept() { return store().records().find(kCredentialData, "db"); }

  Credential credential_ = sample_credential("db");
};
KEYAGENT_ON_BOTH(Values);

TEST_P(Values, X2_AreRecordsOfTheCredentialsVersion) {
  const auto first = value(), second = value("kid-2");
  EXPECT_EQ(put(&first).version, 1);
  EXPECT_EQ(put(&second).version, 2);
  EXPECT_EQ(kept()->version, 2);
  EXPECT_EQ(kept()->envelope, second.envelope);
  EXPECT_EQ(store().credentials().find("db")->kid, "kid-2");
  EXPECT_FALSE(store().credentials().find("db")->blind);
  EXPECT_EQ(store().credentials().all().at(0).kid, "kid-2");
  EXPECT_EQ(put(nullptr).version, 3);
  EXPECT_FALSE(kept()) << "of a blind one";
  EXPECT_TRUE(store().credentials().find("db")->blind);
  EXPECT_EQ(put(&first).version, 4);
  EXPECT_EQ(kept()->version, 4);
  store().credentials().remove("db");
  EXPECT_FALSE(kept());
  EXPECT_TRUE(store().records().count_by_kid(kCredentialData).empty());
}

TEST_P(Values, X2_ComeUnderNoClosedKeyAndThenNothingIsChanged) {
  const auto first = value(), second = value("kid-2"), unknown = value("kid-3");
  put(&first);
  store().data_keys().close("kid-2");
  EXPECT_EQ(put(&second).outcome, RecordPut::Outcome::kClosed);
  EXPECT_EQ(put(&unknown).outcome, RecordPut::Outcome::kClosed);
  EXPECT_EQ(store().credentials().find("db")->version, 1);
  EXPECT_EQ(kept()->envelope, first.envelope);
}

TEST_P(Values, X2_ThatWereKeptAsBeforeSchema6AreMovedOnceAndKeepTheirVersion) {
  put(nullptr);
  Database database(Options{url_});
  database.write([](Sql& sql) {
    return sql.run("UPDATE credentials SET blind = 0, envelope = :envelope, version = 7",
                   {{"envelope", Bytes{1, 2, 3}}});
  });
  const auto before = store().credentials().find("db").value();
  ASSERT_EQ(before.envelope, (Bytes{1, 2, 3}));
  const auto first = value(), second = value("kid-2");
  store().data_keys().close("kid-2");
  EXPECT_EQ(store().credentials().move_value(before, second).outcome, RecordPut::Outcome::kClosed);
  EXPECT_EQ(store().credentials().move_value(before, first).outcome, RecordPut::Outcome::kDone);
  EXPECT_EQ(store().credentials().move_value(before, first).outcome, RecordPut::Outcome::kConflict);
  EXPECT_EQ(kept()->version, 7);
  EXPECT_EQ(store().credentials().find("db")->version, 7);
  EXPECT_TRUE(store().credentials().find("db")->envelope.empty());
}

TEST_P(Credentials, RemovedOneLeavesNoEnvelopeAndItsVersionsContinue) {
  store().credentials().put(sample_credential("db"), nullptr);
  store().sealed_copies().put({"db", 1, "host-1", "kid-1", random_bytes(8)});
  EXPECT_TRUE(store().credentials().remove("db"));
  EXPECT_FALSE(store().credentials().remove("db"));
  EXPECT_FALSE(store().credentials().remove("none"));
  EXPECT_TRUE(store().credentials().all().empty());
  EXPECT_TRUE(store().credentials().find("db")->removed);
  EXPECT_TRUE(store().credentials().find("db")->envelope.empty());
  EXPECT_TRUE(store().sealed_copies().all("host-1", "kid-1").empty());
  EXPECT_FALSE(store().credentials().assign("db", {}, {}));
  EXPECT_FALSE(store().sealed_copies().put({"db", 1, "host-1", "kid-1", random_bytes(8)}));
  EXPECT_EQ(store().credentials().put(sample_credential("db"), nullptr).version, 2);
  EXPECT_FALSE(store().credentials().find("db")->removed);
}

TEST_P(Credentials, SealedCopyIsReadBackByAgentAndKid) {
  store().credentials().put(sample_credential(kAwkward), nullptr);
  const SealedCopy copy{kAwkward, 1, kAwkward, "kid'1", random_bytes(300)};
  EXPECT_TRUE(store().sealed_copies().put(copy));
  const auto read = store().sealed_copies().find(kAwkward, kAwkward, "kid'1").value();
  EXPECT_EQ(read.credential, copy.credential);
  EXPECT_EQ(read.version, 1);
  EXPECT_EQ(read.agent, copy.agent);
  EXPECT_EQ(read.kid, copy.kid);
  EXPECT_EQ(read.envelope, copy.envelope);
  EXPECT_FALSE(store().sealed_copies().find(kAwkward, kAwkward, "kid'2"));
  EXPECT_FALSE(store().sealed_copies().find(kAwkward, "host-1", "kid'1"));
}

TEST_P(Credentials, CopyOfAnOlderVersionIsNotTheNewestAndReplacesNoNewer) {
  store().credentials().put(sample_credential("db"), nullptr);
  EXPECT_TRUE(store().sealed_copies().put({"db", 1, "host-1", "kid-1", {1}}));
  store().credentials().put(sample_credential("db"), nullptr);
  EXPECT_FALSE(store().sealed_copies().find("db", "host-1", "kid-1"));
  EXPECT_EQ(store().sealed_copies().all("host-1", "kid-1").at(0).version, 1);
  EXPECT_TRUE(store().sealed_copies().put({"db", 2, "host-1", "kid-1", {2}}));
  EXPECT_TRUE(store().sealed_copies().put({"db", 2, "host-1", "kid-1", {3}}));
  EXPECT_FALSE(store().sealed_copies().put({"db", 1, "host-1", "kid-1", {4}}));
  EXPECT_EQ(store().sealed_copies().find("db", "host-1", "kid-1")->envelope, Bytes{3});
  EXPECT_EQ(store().sealed_copies().all("host-1", "kid-1").size(), 1u);
}

TEST_P(Credentials, CopyOfAMissingCredentialOrVersionIsRefused) {
  store().credentials().put(sample_credential("db"), nullptr);
  EXPECT_FALSE(store().sealed_copies().put({"none", 1, "host-1", "kid-1", {1}}));
  EXPECT_FALSE(store().sealed_copies().put({"db", 2, "host-1", "kid-1", {1}}));
  EXPECT_FALSE(store().sealed_copies().put({"db", 0, "host-1", "kid-1", {1}}));
  EXPECT_TRUE(store().sealed_copies().census("host-1").empty());
}

TEST_P(Credentials, CensusCountsByKidUntilTheyAreDropped) {
  for (const char* name : {"a", "b", "c"}) {
    store().credentials().put(sample_credential(name), nullptr);
    store().sealed_copies().put({name, 1, "host-1", "kid-1", {1}});
  }
  store().sealed_copies().put({"a", 1, "host-1", "kid-2", {1}});
  store().sealed_copies().put({"a", 1, "host-2", "kid-1", {1}});
  EXPECT_EQ(store().sealed_copies().census("host-1"), (Census{{"kid-1", 3}, {"kid-2", 1}}));
  const auto copies = store().sealed_copies().all("host-1", "kid-1");
  ASSERT_EQ(copies.size(), 3u);
  EXPECT_EQ(copies[2].credential, "c");
  store().sealed_copies().drop("host-1", "kid-1");
  EXPECT_EQ(store().sealed_copies().census("host-1"), (Census{{"kid-2", 1}}));
  EXPECT_EQ(store().sealed_copies().census("host-2"), (Census{{"kid-1", 1}}));
}

TEST_P(Credentials, EnvelopesOfNoByteAndOfAMebibyteAreReadBack) {
  store().credentials().put(sample_credential("big"), nullptr);
  const SealedCopy copy{"big", 1, "host-1", "kid-1", random_bytes(1 << 20)};
  store().sealed_copies().put(copy);
  EXPECT_EQ(store().sealed_copies().find("big", "host-1", "kid-1")->envelope, copy.envelope);
  store().sealed_copies().put({"big", 1, "host-1", "kid-0", {}});
  EXPECT_TRUE(store().sealed_copies().find("big", "host-1", "kid-0")->envelope.empty());
}

class Rekeys : public BothTest {};
KEYAGENT_ON_BOTH(Rekeys);

TEST_P(Rekeys, RekeyIsNumberedAndReadBack) {
  auto rekey = sample_rekey("host-1");
  rekey.id = 99;
  EXPECT_EQ(store().rekeys().add(rekey), 1);
  EXPECT_EQ(store().rekeys().add(rekey), 2);
  rekey.id = 2;
  expect_equal(store().rekeys().find(2).value(), rekey);
  EXPECT_FALSE(store().rekeys().find(3));
}

TEST_P(Rekeys, RekeyIsMovedOnlyFromTheStateItIsIn) {
  auto rekey = sample_rekey("host-1");
  rekey.id = store().rekeys().add(rekey);
  auto moved = rekey;
  moved.state = "staged";
  moved.new_kid = "kid-2";
  moved.detail = "made";
  moved.changed = kNow + std::chrono::seconds(1);
  moved.agent = "another";
  EXPECT_FALSE(store().rekeys().move(moved, "sent"));
  expect_equal(store().rekeys().find(rekey.id).value(), rekey);
  EXPECT_TRUE(store().rekeys().move(moved, "ordered"));
  moved.agent = "host-1";
  expect_equal(store().rekeys().find(rekey.id).value(), moved);
  EXPECT_FALSE(store().rekeys().move(moved, "ordered"));
}

TEST_P(Rekeys, OpenOnesAreThoseInProgress) {
  for (const char* state : {"ordered", "sent", "staged", "confirmed", "failed", "cancelled"}) {
    for (const char* agent : {"host-1", "host-2"}) {
      auto rekey = sample_rekey(agent);
      rekey.state = state;
      store().rekeys().add(rekey);
    }
  }
  EXPECT_EQ(store().rekeys().list("host-1", false).size(), 6u);
  EXPECT_EQ(store().rekeys().list("", false).size(), 12u);
  EXPECT_EQ(store().rekeys().list("", true).size(), 6u);
  const auto open = store().rekeys().list("host-2", true);
  ASSERT_EQ(open.size(), 3u);
  EXPECT_EQ(open[0].state, "ordered");
  EXPECT_EQ(open[2].state, "staged");
  EXPECT_TRUE(store().rekeys().list("nobody", false).empty());
}

}  // namespace
}  // namespace keyagent::store
