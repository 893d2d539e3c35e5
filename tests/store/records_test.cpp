// SPDX-License-Identifier: Apache-2.0
#include "agent/store/records.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/store/data_keys.h"
#include "agent/store/engine/database.h"
#include "agent/store/events.h"
#include "agent/store/reencryptions.h"
#include "agent/store/specifications.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;
using Outcome = RecordPut::Outcome;
using Counts = std::vector<std::pair<std::string, std::int64_t>>;

class RecordsStore : public BothTest {
 protected:
  static Record record(const std::string& id, const std::string& kid = "k1",
                       const std::string& envelope = "e1") {
    return {.specification = "pay",
            .id = id,
            .kid = kid,
            .version = 0,
            .envelope = envelope,
            .changed_by = kAwkward,
            .changed = kNow};
  }
  static Reencryption job() {
    Reencryption job;
    job.specification = "pay";
    job.state = "running";
    job.started_by = kAwkward;
    job.rate = 7;
    job.total = 9;
    job.started = job.changed = job.since = kNow;
    return job;
  }
  void note(const std::string& kid) {
    ASSERT_TRUE(store().data_keys().add({kid, "pay", R"({"instance":"keys-1"})", kNow}));
  }
  Outcome put(const Record& record, std::optional<std::int64_t> expected = std::nullopt) {
    return store().records().put(record, expected).outcome;
  }
  Reencryption claimed(const std::string& holder, WallTime now = kNow) {
    return store().reencryptions().claim(holder, now, 5s).value();
  }
};
KEYAGENT_ON_BOTH(RecordsStore);

TEST_P(RecordsStore, SpecificationIsReadBackAndChangedByOneAtATime) {
  const Specification made{"pay", kAwkward, "ada", "bob", kNow, kNow + 1ms, 0};
  EXPECT_TRUE(store().specifications().add(made, sample_event("specification.create")));
  EXPECT_FALSE(store().specifications().add(made, sample_event("specification.create")));
  auto read = store().specifications().find("pay").value();
  EXPECT_EQ(read.access, kAwkward);
  EXPECT_EQ(read.created_by, "ada");
  EXPECT_EQ(read.changed_by, "bob");
  EXPECT_EQ(read.created, kNow);
  EXPECT_EQ(read.changed, kNow + 1ms);
  EXPECT_EQ(read.revision, 1);
  read.access = "[]";
  EXPECT_TRUE(store().specifications().update(read, sample_event("specification.access")));
  EXPECT_FALSE(store().specifications().update(read, sample_event("specification.access")));
  EXPECT_EQ(store().specifications().all().at(0).access, "[]");
  EXPECT_EQ(store().events().list(0, 10).size(), 2U);
}

TEST_P(RecordsStore, RecordIsReadBackInEveryFieldAndItsVersionsContinueAfterItsRemoval) {
  note("k1");
  EXPECT_EQ(put(record("1", "k1", std::string(100 << 10, 'x'))), Outcome::kDone);
  const auto read = store().records().find("pay", "1").value();
  EXPECT_EQ(read.kid, "k1");
  EXPECT_EQ(read.version, 1);
  EXPECT_EQ(read.envelope, std::string(100 << 10, 'x'));
  EXPECT_EQ(read.changed_by, kAwkward);
  EXPECT_EQ(read.changed, kNow);
  EXPECT_FALSE(store().records().find("pay", "2"));
  EXPECT_FALSE(store().records().find("other", "1"));
  EXPECT_TRUE(store().records().remove("pay", "1", sample_event("record.remove")));
  EXPECT_FALSE(store().records().remove("pay", "1", sample_event("record.remove")));
  EXPECT_FALSE(store().records().find("pay", "1"));
  EXPECT_TRUE(store().records().list("pay", "", 10).empty());
  EXPECT_EQ(store().records().count_by_kid("pay"), Counts{});
  EXPECT_EQ(store().records().put(record("1"), 0).version, 3);
}

TEST_P(RecordsStore, RecordIsWrittenOnlyOverTheVersionThatIsExpected) {
  note("k1");
  EXPECT_EQ(put(record("1"), 1), Outcome::kConflict);
  EXPECT_EQ(put(record("1"), 0), Outcome::kDone);
  EXPECT_EQ(put(record("1"), 0), Outcome::kConflict);
  EXPECT_EQ(put(record("1"), 1), Outcome::kDone);
  EXPECT_EQ(store().records().put(record("1"), 1).version, 2);  // as it is
  EXPECT_EQ(put(record("1")), Outcome::kDone);
  EXPECT_EQ(store().records().find("pay", "1")->version, 3);
}

TEST_P(RecordsStore, NothingComesUnderAKeyThatIsUnknownOrClosed) {
  EXPECT_EQ(put(record("1")), Outcome::kClosed);
  note("k1");
  EXPECT_FALSE(store().data_keys().add({"k1", "pay", "{}", kNow}));
  EXPECT_EQ(put(record("1")), Outcome::kDone);
  EXPECT_TRUE(store().data_keys().close("k1"));
  EXPECT_FALSE(store().data_keys().close("k1"));
  EXPECT_EQ(put(record("2")), Outcome::kClosed);
  EXPECT_EQ(put(record("1")), Outcome::kClosed);
  const auto keys = store().data_keys().list("pay");
  ASSERT_EQ(keys.size(), 1U);
  EXPECT_EQ(keys[0].source, R"({"instance":"keys-1"})");
  EXPECT_TRUE(keys[0].closed);
}

TEST_P(RecordsStore, RecordsAreListedInTheirOrderAndCountedByKid) {
  note("k1");
  note("k2");
  for (const char* id : {"a", "B", "c", "10", "9"}) put(record(id));
  put(record("d", "k2"));
  std::string ids;
  for (const auto& each : store().records().list("pay", "", 3)) ids += each.id + " ";
  for (const auto& each : store().records().list("pay", "B", 10)) ids += each.id + " ";
  EXPECT_EQ(ids, "10 9 B a c d ");
  EXPECT_TRUE(store().records().list("pay", "", 1).at(0).envelope.empty());
  EXPECT_EQ(store().records().count_by_kid("pay"), (Counts{{"k1", 5}, {"k2", 1}}));
  const auto under = store().records().list_under("pay", "k1", "B", 10);
  ASSERT_EQ(under.size(), 2U);
  EXPECT_EQ(under[0].id, "a");
  EXPECT_EQ(under[0].envelope, "e1");
}

TEST_P(RecordsStore, ReencryptionIsReadBackAndOneAtATime) {
  EXPECT_TRUE(store().reencryptions().begin(job(), sample_event("reencrypt.start")));
  EXPECT_FALSE(store().reencryptions().begin(job(), sample_event("reencrypt.start")));
  auto read = store().reencryptions().find("pay").value();
  EXPECT_EQ(read.started_by, kAwkward);
  EXPECT_EQ(read.rate, 7);
  EXPECT_EQ(read.total, 9);
  EXPECT_EQ(read.started, kNow);
  read.state = "partial";
  read.text = kAwkward;
  EXPECT_TRUE(store().reencryptions().move(read, sample_event("reencrypt.partial")));
  EXPECT_EQ(store().reencryptions().all().at(0).text, kAwkward);
  EXPECT_EQ(store().events().list(0, 10).size(), 2U);
  EXPECT_TRUE(store().reencryptions().begin(job(), sample_event("reencrypt.start")));
  EXPECT_EQ(store().reencryptions().find("pay")->text, "");
}

TEST_P(RecordsStore, Fault136_ReencryptionWhoseHolderIsGoneGoesToOneOtherWhoseFenceCounts) {
  note("k1");
  note("k2");
  put(record("1"));
  store().reencryptions().begin(job(), sample_event());
  auto first = claimed("a");
  EXPECT_FALSE(store().reencryptions().claim("b", kNow + 4s, 5s));
  auto second = claimed("b", kNow + 6s);
  EXPECT_FALSE(store().reencryptions().claim("c", kNow + 6s, 5s));
  first.position = second.position = "1";
  EXPECT_EQ(store().reencryptions().write_records(first, {{"1", "e1", "late", "k2"}}),
            std::nullopt);
  EXPECT_FALSE(store().reencryptions().move(first));
  EXPECT_EQ(store().records().find("pay", "1")->envelope, "e1");
  EXPECT_EQ(store().reencryptions().write_records(second, {{"1", "e1", "e2", "k2"}}), 1);
  const auto now = store().reencryptions().find("pay").value();
  EXPECT_EQ(now.holder, "b");
  EXPECT_EQ(now.position, "1");
  EXPECT_EQ(now.done, 1);
  const auto read = store().records().find("pay", "1").value();
  EXPECT_EQ(read.envelope, "e2");
  EXPECT_EQ(read.kid, "k2");
  EXPECT_EQ(read.version, 1);
  // A clock that is a little behind takes nothing; a lease that a wrong clock gave does not last.
  EXPECT_FALSE(store().reencryptions().claim("c", kNow + 2s, 5s));
  EXPECT_TRUE(store().reencryptions().claim("c", kNow - 1h, 5s));
}

// It is paused by one who read the row before more records were done: their number stays.
TEST_P(RecordsStore, Fault136_AMoveOfAJobThatWentOnMeanwhileLosesNoCount) {
  note("k1");
  note("k2");
  put(record("1"));
  put(record("2"));
  store().reencryptions().begin(job(), sample_event());
  auto mine = claimed("a");
  auto paused = store().reencryptions().find("pay").value();
  paused.state = "paused";
  EXPECT_EQ(store().reencryptions().write_records(mine, {{"1", "e1", "e2", "k2"}}), 1);
  EXPECT_FALSE(store().reencryptions().move(paused));
  EXPECT_EQ(store().reencryptions().write_records(mine, {{"2", "e1", "e2", "k2"}}), 1);
  EXPECT_EQ(mine.done, 2);
  EXPECT_EQ(store().reencryptions().find("pay")->done, 2);
  EXPECT_TRUE(store().reencryptions().move(mine));
}

TEST_P(RecordsStore, RecordThatWasChangedOrRemovedMeanwhileIsNotReplaced) {
  note("k1");
  note("k2");
  for (const char* id : {"1", "2", "3", "4"}) put(record(id));
  store().reencryptions().begin(job(), sample_event());
  auto mine = claimed("a");
  put(record("1", "k1", "newer"));
  store().records().remove("pay", "2", sample_event());
  EXPECT_EQ(store().reencryptions().write_records(
                mine, {{"1", "e1", "e2", "k2"}, {"2", "e1", "e2", "k2"}, {"3", "e1", "e2", "k2"}}),
            1);
  EXPECT_EQ(store().records().find("pay", "1")->envelope, "newer");
  EXPECT_FALSE(store().records().find("pay", "2"));
  EXPECT_EQ(store().records().find("pay", "3")->envelope, "e2");
  store().data_keys().close("k2");
  EXPECT_EQ(store().reencryptions().write_records(mine, {{"4", "e1", "e2", "k2"}}), 0);
  EXPECT_EQ(store().records().find("pay", "4")->envelope, "e1");
}

// Anyone who closes a key waits for those who are writing: what is counted after that stays.
TEST_P(RecordsStore, ARecordIsCountedUnderItsKeyOrComesUnderAnotherWhenThatIsClosed) {
  note("k1");
  std::atomic<bool> closed{false};
  std::atomic<std::int64_t> written{0};
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 3; ++writer) {
    writers.emplace_back([&, writer] {
      for (int i = 0; !closed || i < 20; ++i) {
        const auto id = std::to_string(writer) + "-" + std::to_string(i);
        if (put(record(id)) == Outcome::kDone) ++written;
      }
    });
  }
  while (written < 10) std::this_thread::yield();
  store().data_keys().close("k1");
  const auto counted = store().records().count_by_kid("pay").at(0).second;
  closed = true;
  for (auto& each : writers) each.join();
  EXPECT_EQ(store().records().count_by_kid("pay").at(0).second, counted);
  EXPECT_EQ(written, counted);
}

}  // namespace
}  // namespace keyagent::store
