// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/store/engine/database.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using Census = std::vector<std::pair<std::string, std::int64_t>>;

class Credentials : public BothTest {};
KEYAGENT_ON_BOTH(Credentials);

TEST_P(Credentials, VersionsCountUpAndTheNewestIsRead) {
  auto credential = sample_credential(kAwkward);
  EXPECT_EQ(store().put_credential(credential, nullptr).version, 1);
  credential.version = 1;
  expect_equal(store().credential(kAwkward).value(), credential);
  credential.type = "ssh-key";
  credential.agents.clear();
  credential.changed_by = "ada";
  // A version that another one has already is not taken; the next one is.
  EXPECT_EQ(store().put_credential(credential, nullptr).outcome, RecordPut::Outcome::kMoved);
  EXPECT_EQ(store().credential(kAwkward)->type, "password");
  credential.version = 2;
  EXPECT_EQ(store().put_credential(credential, nullptr).version, 2);
  expect_equal(store().credential(kAwkward).value(), credential);
  ASSERT_EQ(store().credentials().size(), 1u);
  expect_equal(store().credentials()[0], credential);
  EXPECT_FALSE(store().credential("none"));
}

TEST_P(Credentials, AssignmentChangesWhoGetsItAndNothingElse) {
  auto credential = sample_credential("db");
  store().put_credential(credential, nullptr);
  EXPECT_TRUE(store().assign_credential("db", {kAwkward}, {}));
  EXPECT_FALSE(store().assign_credential("none", {}, {}));
  credential.version = 1;
  credential.agents = {kAwkward};
  credential.groups.clear();
  expect_equal(store().credential("db").value(), credential);
}

// What one put holds, as its record.
class Values : public BothTest {
 protected:
  void SetUp() override {
    BothTest::SetUp();
    if (IsSkipped()) return;
    for (const char* kid : {"kid-1", "kid-2"})
      ASSERT_TRUE(store().note_data_key({kid, kCredentialData, "{}", kNow}));
  }
  static Record value(const std::string& kid = "kid-1") {
    return {kCredentialData, "db", kid, 0, "value under " + kid, "ada", kNow};
  }
  RecordPut put(const Record* value) { return store().put_credential(credential_, value); }
  std::optional<Record> kept() { return store().record(kCredentialData, "db"); }

  Credential credential_ = sample_credential("db");
};
KEYAGENT_ON_BOTH(Values);

TEST_P(Values, X2_AreRecordsOfTheCredentialsVersion) {
  const auto first = value(), second = value("kid-2");
  EXPECT_EQ(put(&first).version, 1);
  EXPECT_EQ(put(&second).version, 2);
  EXPECT_EQ(kept()->version, 2);
  EXPECT_EQ(kept()->envelope, second.envelope);
  EXPECT_EQ(store().credential("db")->kid, "kid-2");
  EXPECT_FALSE(store().credential("db")->blind);
  EXPECT_EQ(store().credentials().at(0).kid, "kid-2");
  EXPECT_EQ(put(nullptr).version, 3);
  EXPECT_FALSE(kept()) << "of a blind one";
  EXPECT_TRUE(store().credential("db")->blind);
  EXPECT_EQ(put(&first).version, 4);
  EXPECT_EQ(kept()->version, 4);
  store().remove_credential("db");
  EXPECT_FALSE(kept());
  EXPECT_TRUE(store().count_records(kCredentialData).empty());
}

TEST_P(Values, X2_ComeUnderNoClosedKeyAndThenNothingIsChanged) {
  const auto first = value(), second = value("kid-2"), unknown = value("kid-3");
  put(&first);
  store().close_data_key("kid-2");
  EXPECT_EQ(put(&second).outcome, RecordPut::Outcome::kClosed);
  EXPECT_EQ(put(&unknown).outcome, RecordPut::Outcome::kClosed);
  EXPECT_EQ(store().credential("db")->version, 1);
  EXPECT_EQ(kept()->envelope, first.envelope);
}

TEST_P(Values, X2_ThatWereKeptAsBeforeSchema6AreMovedOnceAndKeepTheirVersion) {
  put(nullptr);
  Database database(Options{url_});
  database.write([](Sql& sql) {
    return sql.run("UPDATE credentials SET blind = 0, envelope = :envelope, version = 7",
                   {{"envelope", Bytes{1, 2, 3}}});
  });
  const auto before = store().credential("db").value();
  ASSERT_EQ(before.envelope, (Bytes{1, 2, 3}));
  const auto first = value(), second = value("kid-2");
  store().close_data_key("kid-2");
  EXPECT_EQ(store().move_credential(before, second).outcome, RecordPut::Outcome::kClosed);
  EXPECT_EQ(store().move_credential(before, first).outcome, RecordPut::Outcome::kDone);
  EXPECT_EQ(store().move_credential(before, first).outcome, RecordPut::Outcome::kConflict);
  EXPECT_EQ(kept()->version, 7);
  EXPECT_EQ(store().credential("db")->version, 7);
  EXPECT_TRUE(store().credential("db")->envelope.empty());
}

TEST_P(Credentials, RemovedOneLeavesNoEnvelopeAndItsVersionsContinue) {
  store().put_credential(sample_credential("db"), nullptr);
  store().put_sealed_copy({"db", 1, "host-1", "kid-1", random_bytes(8)});
  EXPECT_TRUE(store().remove_credential("db"));
  EXPECT_FALSE(store().remove_credential("db"));
  EXPECT_FALSE(store().remove_credential("none"));
  EXPECT_TRUE(store().credentials().empty());
  EXPECT_TRUE(store().credential("db")->removed);
  EXPECT_TRUE(store().credential("db")->envelope.empty());
  EXPECT_TRUE(store().sealed_copies("host-1", "kid-1").empty());
  EXPECT_FALSE(store().assign_credential("db", {}, {}));
  EXPECT_FALSE(store().put_sealed_copy({"db", 1, "host-1", "kid-1", random_bytes(8)}));
  EXPECT_EQ(store().put_credential(sample_credential("db"), nullptr).version, 2);
  EXPECT_FALSE(store().credential("db")->removed);
}

TEST_P(Credentials, SealedCopyIsReadBackByAgentAndKid) {
  store().put_credential(sample_credential(kAwkward), nullptr);
  const SealedCopy copy{kAwkward, 1, kAwkward, "kid'1", random_bytes(300)};
  EXPECT_TRUE(store().put_sealed_copy(copy));
  const auto read = store().sealed_copy(kAwkward, kAwkward, "kid'1").value();
  EXPECT_EQ(read.credential, copy.credential);
  EXPECT_EQ(read.version, 1);
  EXPECT_EQ(read.agent, copy.agent);
  EXPECT_EQ(read.kid, copy.kid);
  EXPECT_EQ(read.envelope, copy.envelope);
  EXPECT_FALSE(store().sealed_copy(kAwkward, kAwkward, "kid'2"));
  EXPECT_FALSE(store().sealed_copy(kAwkward, "host-1", "kid'1"));
}

TEST_P(Credentials, CopyOfAnOlderVersionIsNotTheNewestAndReplacesNoNewer) {
  store().put_credential(sample_credential("db"), nullptr);
  EXPECT_TRUE(store().put_sealed_copy({"db", 1, "host-1", "kid-1", {1}}));
  store().put_credential(sample_credential("db"), nullptr);
  EXPECT_FALSE(store().sealed_copy("db", "host-1", "kid-1"));
  EXPECT_EQ(store().sealed_copies("host-1", "kid-1").at(0).version, 1);
  EXPECT_TRUE(store().put_sealed_copy({"db", 2, "host-1", "kid-1", {2}}));
  EXPECT_TRUE(store().put_sealed_copy({"db", 2, "host-1", "kid-1", {3}}));
  EXPECT_FALSE(store().put_sealed_copy({"db", 1, "host-1", "kid-1", {4}}));
  EXPECT_EQ(store().sealed_copy("db", "host-1", "kid-1")->envelope, Bytes{3});
  EXPECT_EQ(store().sealed_copies("host-1", "kid-1").size(), 1u);
}

TEST_P(Credentials, CopyOfAMissingCredentialOrVersionIsRefused) {
  store().put_credential(sample_credential("db"), nullptr);
  EXPECT_FALSE(store().put_sealed_copy({"none", 1, "host-1", "kid-1", {1}}));
  EXPECT_FALSE(store().put_sealed_copy({"db", 2, "host-1", "kid-1", {1}}));
  EXPECT_FALSE(store().put_sealed_copy({"db", 0, "host-1", "kid-1", {1}}));
  EXPECT_TRUE(store().census("host-1").empty());
}

TEST_P(Credentials, CensusCountsByKidUntilTheyAreDropped) {
  for (const char* name : {"a", "b", "c"}) {
    store().put_credential(sample_credential(name), nullptr);
    store().put_sealed_copy({name, 1, "host-1", "kid-1", {1}});
  }
  store().put_sealed_copy({"a", 1, "host-1", "kid-2", {1}});
  store().put_sealed_copy({"a", 1, "host-2", "kid-1", {1}});
  EXPECT_EQ(store().census("host-1"), (Census{{"kid-1", 3}, {"kid-2", 1}}));
  const auto copies = store().sealed_copies("host-1", "kid-1");
  ASSERT_EQ(copies.size(), 3u);
  EXPECT_EQ(copies[2].credential, "c");
  store().drop_sealed_copies("host-1", "kid-1");
  EXPECT_EQ(store().census("host-1"), (Census{{"kid-2", 1}}));
  EXPECT_EQ(store().census("host-2"), (Census{{"kid-1", 1}}));
}

TEST_P(Credentials, EnvelopesOfNoByteAndOfAMebibyteAreReadBack) {
  store().put_credential(sample_credential("big"), nullptr);
  const SealedCopy copy{"big", 1, "host-1", "kid-1", random_bytes(1 << 20)};
  store().put_sealed_copy(copy);
  EXPECT_EQ(store().sealed_copy("big", "host-1", "kid-1")->envelope, copy.envelope);
  store().put_sealed_copy({"big", 1, "host-1", "kid-0", {}});
  EXPECT_TRUE(store().sealed_copy("big", "host-1", "kid-0")->envelope.empty());
}

class Rekeys : public BothTest {};
KEYAGENT_ON_BOTH(Rekeys);

TEST_P(Rekeys, RekeyIsNumberedAndReadBack) {
  auto rekey = sample_rekey("host-1");
  rekey.id = 99;
  EXPECT_EQ(store().add_rekey(rekey), 1);
  EXPECT_EQ(store().add_rekey(rekey), 2);
  rekey.id = 2;
  expect_equal(store().rekey(2).value(), rekey);
  EXPECT_FALSE(store().rekey(3));
}

TEST_P(Rekeys, RekeyIsMovedOnlyFromTheStateItIsIn) {
  auto rekey = sample_rekey("host-1");
  rekey.id = store().add_rekey(rekey);
  auto moved = rekey;
  moved.state = "staged";
  moved.new_kid = "kid-2";
  moved.detail = "made";
  moved.changed = kNow + std::chrono::seconds(1);
  moved.agent = "another";
  EXPECT_FALSE(store().move_rekey(moved, "sent"));
  expect_equal(store().rekey(rekey.id).value(), rekey);
  EXPECT_TRUE(store().move_rekey(moved, "ordered"));
  moved.agent = "host-1";
  expect_equal(store().rekey(rekey.id).value(), moved);
  EXPECT_FALSE(store().move_rekey(moved, "ordered"));
}

TEST_P(Rekeys, OpenOnesAreThoseInProgress) {
  for (const char* state : {"ordered", "sent", "staged", "confirmed", "failed", "cancelled"}) {
    for (const char* agent : {"host-1", "host-2"}) {
      auto rekey = sample_rekey(agent);
      rekey.state = state;
      store().add_rekey(rekey);
    }
  }
  EXPECT_EQ(store().rekeys("host-1", false).size(), 6u);
  EXPECT_EQ(store().rekeys("", false).size(), 12u);
  EXPECT_EQ(store().rekeys("", true).size(), 6u);
  const auto open = store().rekeys("host-2", true);
  ASSERT_EQ(open.size(), 3u);
  EXPECT_EQ(open[0].state, "ordered");
  EXPECT_EQ(open[2].state, "staged");
  EXPECT_TRUE(store().rekeys("nobody", false).empty());
}

}  // namespace
}  // namespace keyagent::store
