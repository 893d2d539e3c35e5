// SPDX-License-Identifier: Apache-2.0
// Re-encryption of real records by a real keyinstanced: rekeyed, killed, stopped, without its
// agent.

#include <atomic>
#include <random>

#include "agent/store/data_keys.h"
#include "agent/store/records.h"
#include "agent/store/reencryptions.h"
#include "agent/store/specifications.h"
#include "tests/instance/data_instance.h"

namespace keyagent::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class ReencryptionTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const bool postgres = std::string(GetParam()) == "postgresql";
    if (postgres && !Postgres::missing().empty())
      GTEST_SKIP() << Postgres::missing() << " is not installed";
    if (postgres) url_ = Postgres::shared().new_database();
    instance_ = std::make_unique<DataInstance>(url_);
    instance_->specify();
  }
  DataInstance& it() { return *instance_; }
  void start(const std::string& more = {}) {
    const auto started = it().run("crypto", "reencrypt start pay" + more);
    ASSERT_EQ(started.status, 0) << started.output;
  }
  void expect_all(int count) {
    for (int i = 0; i < count; ++i) ASSERT_TRUE(it().holds(i)) << i;
  }

  std::string url_;
  std::unique_ptr<DataInstance> instance_;
};
INSTANTIATE_TEST_SUITE_P(On, ReencryptionTest, testing::Values("sqlite", "postgresql"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(ReencryptionTest, X9_EveryRecordComesUnderTheActiveKeyAndTheOldOneMayGo) {
  constexpr int kRecords = 200;
  it().fill(kRecords);
  const auto [before, after] = it().rekey();
  ASSERT_NE(before, after);
  EXPECT_EQ(it().get(DataInstance::id_of(7)).output, DataInstance::value_of(7));
  ASSERT_EQ(it().put("new", "value").status, 0);
  EXPECT_EQ(it().census(), (std::map<std::string, std::int64_t>{{before, kRecords}, {after, 1}}));
  EXPECT_EQ(it().destroy(before), Code::kKeyState);
  const auto done = it().run("crypto", "--json reencrypt start pay --wait --timeout 120");
  ASSERT_EQ(done.status, 0) << done.output << read_text(it().process.log());
  const Json job = Json::parse(done.output).at("reencryptions").at(0);
  EXPECT_EQ(job.at("state"), "complete");
  EXPECT_EQ(job.at("total"), kRecords);
  EXPECT_EQ(job.at("done"), kRecords);
  EXPECT_EQ(job.at("left"), 0);
  EXPECT_EQ(it().census(), (std::map<std::string, std::int64_t>{{after, kRecords + 1}}));
  expect_all(kRecords);
  EXPECT_EQ(it().store->records().find("pay", DataInstance::id_of(7))->version, 1);
  EXPECT_TRUE(wait_until([&, before = before] { return it().reported(before) == 0; }));
  EXPECT_EQ(it().reported(after), kRecords + 1);
  for (const auto& each : it().store->data_keys().list("pay"))
    EXPECT_EQ(each.closed, each.kid == before);
  // Nothing is done twice, and there is one at a time.
  EXPECT_EQ(it().run("crypto", "reencrypt pause pay").status, 3);
  EXPECT_EQ(it().process.json("crypto", "reencrypt start pay --wait")
                .at("reencryptions")
                .at(0)
                .at("done"),
            0);
}

// KEYAGENT_RECORDS=100000 takes six minutes a database; it is killed 20 times then.
TEST_P(ReencryptionTest, X9_AnInstanceThatIsKilledAtAnyMomentLosesNoRecordAndResumes) {
  const char* const wanted = std::getenv("KEYAGENT_RECORDS");
  const int records = wanted != nullptr ? std::stoi(wanted) : 3000;
  const int kills_wanted = wanted != nullptr ? 20 : 6;
  it().fill(records);
  const auto [before, after] = it().rekey();
  std::atomic<bool> ended{false};
  std::atomic<int> reads{0}, failures{0};
  std::thread reader([&] {
    std::mt19937 random(7);
    while (!ended) {
      try {
        if (!it().holds(static_cast<int>(random() % records))) ++failures;
        ++reads;
      } catch (const Error& error) {
        if (!retryable(error.code())) ++failures;
      }
    }
  });
  start();
  std::mt19937 random(std::random_device{}());
  std::int64_t last = 0;
  int kills = 0;
  // Each time when a few more are done, wherever that is.
  while (kills < kills_wanted) {
    const auto more =
        last + 1 + static_cast<std::int64_t>(random()) % (records * 3 / 5 / kills_wanted);
    ASSERT_TRUE(wait_until(
        [&] {
          const auto job = it().store->reencryptions().find("pay").value();
          return job.done >= more || job.state != "running";
        },
        60s))
        << read_text(it().process.log());
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));  // paces: any moment
    it().process.stop();
    const auto job = it().store->reencryptions().find("pay").value();
    EXPECT_GE(job.done, last);
    EXPECT_EQ(it().census()[after], job.done);  // the checkpoint is what was done
    last = job.done;
    ++kills;
    it().process.start();
  }
  ASSERT_TRUE(it().ends("complete")) << it().job().dump() << read_text(it().process.log());
  ended = true;
  reader.join();
  EXPECT_EQ(failures, 0);
  EXPECT_GT(reads, 0);
  EXPECT_EQ(it().census(), (std::map<std::string, std::int64_t>{{after, records}}));
  EXPECT_EQ(it().store->reencryptions().find("pay")->done, records);
  expect_all(records);
  EXPECT_TRUE(wait_until([&, before = before] { return it().reported(before) == 0; }));
}

TEST_P(ReencryptionTest, X9_ItResumesWhenTheAgentIsBack) {
  constexpr int kRecords = 600;
  it().fill(kRecords);
  const auto after = it().rekey().second;
  start(" --rate 400");
  ASSERT_TRUE(wait_until([&] { return it().store->reencryptions().find("pay")->done > 0; }));
  it().process.agent.kill();
  ASSERT_TRUE(wait_until([&] {
    return read_text(it().process.log()).find("re-encryption of pay waits") != std::string::npos ||
           read_text(it().process.log()).find("re-encryption: ") != std::string::npos;
  })) << read_text(it().process.log());
  EXPECT_EQ(it().store->reencryptions().find("pay")->state, "running");
  it().process.agent.start();
  ASSERT_TRUE(it().ends("complete")) << it().job().dump() << read_text(it().process.log());
  EXPECT_EQ(it().census(), (std::map<std::string, std::int64_t>{{after, kRecords}}));
  expect_all(kRecords);
}

TEST_P(ReencryptionTest, ItIsPausedAndResumedAndKeepsToItsRate) {
  constexpr int kRecords = 100, kRate = 20;
  it().fill(kRecords);
  it().rekey();
  const auto began = std::chrono::steady_clock::now();
  start(" --rate " + std::to_string(kRate));
  EXPECT_EQ(it().run("crypto", "reencrypt start pay").status, 3);
  ASSERT_TRUE(wait_until([&] { return it().store->reencryptions().find("pay")->done > 0; }));
  EXPECT_EQ(it().run("app", "reencrypt pause pay").status, 3);
  ASSERT_EQ(it().run("crypto", "reencrypt pause pay").status, 0);
  const auto done = it().store->reencryptions().find("pay")->done;
  EXPECT_LT(done, kRecords);
  // Who has done another one since has left this one alone.
  it().specify("other");
  ASSERT_EQ(it().run("crypto", "reencrypt start other --wait --timeout 60").status, 0);
  EXPECT_EQ(it().store->reencryptions().find("pay")->done, done);
  EXPECT_EQ(it().census()[it().active()], done);
  EXPECT_EQ(it().job().at("state"), "paused");
  ASSERT_EQ(it().run("crypto", "reencrypt resume pay").status, 0);
  ASSERT_TRUE(wait_until([&] {
    const Json job = it().job();
    return job.at("state") == "complete" || job.at("ends").is_string();
  }));
  ASSERT_TRUE(it().ends("complete"));
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - began;
  EXPECT_GE(time.count(), (kRecords - 2.0 * kRate) / kRate);
}

TEST_P(ReencryptionTest, X11_RecordsUnderKeysOfAnotherTokenAreKeptAndReported) {
  it().fill(3);
  auto foreign = it().store->records().find("pay", DataInstance::id_of(0)).value();
  foreign.id = "elsewhere";
  foreign.kid = std::string(32, 'b');
  it().store->data_keys().add({foreign.kid, "pay", R"({"instance":"keys-source"})", {}});
  it().store->records().put(foreign, 0);
  it().sql("UPDATE records SET envelope = 'e30.a.b.c.d' WHERE id = '" + DataInstance::id_of(1) +
           "'");
  const auto [before, after] = it().rekey();
  const auto done = it().run("crypto", "reencrypt start pay --wait --timeout 60");
  EXPECT_EQ(done.status, 7);
  EXPECT_THAT(done.output, HasSubstr("1 under " + foreign.kid + ": KEY_NOT_PRESENT"));
  EXPECT_THAT(done.output, HasSubstr("1 under " + before));
  EXPECT_EQ(it().census(),
            (std::map<std::string, std::int64_t>{{before, 1}, {after, 2}, {foreign.kid, 1}}));
  EXPECT_EQ(it().store->records().find("pay", "elsewhere")->envelope, foreign.envelope);
  EXPECT_EQ(it().reported(before), 1);
}

// The agent would destroy it automatically after its drain period.
TEST_P(ReencryptionTest, R12_TheOldKeyIsThereAsLongAsARecordNeedsItAndThenGoes) {
  constexpr int kRecords = 100;
  it().process.agent.stop();
  it().process.agent.extra += "rekey:\n  keys:\n    data.pay: {drain: 10s}\n";
  it().process.agent.start();
  // Of which no census has told.
  const auto first = it().put("first", "value");
  ASSERT_EQ(first.status, 0) << first.output << it().process.agent.story();
  it().fill(kRecords);
  const auto before = it().rekey().first;
  const auto state = [&] {
    for (const auto& key : it().keys->generations("pay")) {
      if (key.kid() == before) return key.state();
    }
    return std::string("none");
  };
  const auto waits_for = [&] {
    const Json rekey = it().specification().at("rekey");
    return rekey.is_object() ? rekey.at("waits_for").get<std::string>() : "nothing";
  };
  ASSERT_TRUE(
      wait_until([&] { return waits_for().find("sealed envelopes") != std::string::npos; }, 60s))
      << waits_for();
  EXPECT_EQ(it().destroy(before), Code::kKeyState);
  EXPECT_EQ(state(), "deactivated");
  expect_all(kRecords);
  start(" --wait --timeout 60");
  EXPECT_TRUE(wait_until([&] { return state() == "destroyed"; }, 60s))
      << state() << it().process.agent.story();
  expect_all(kRecords);
  EXPECT_EQ(it().get("first").output, "value");
}

// A second rekey while the first one's records are on their way.
TEST_P(ReencryptionTest, ARekeyOnTheWayIsFollowed) {
  constexpr int kRecords = 300;
  it().fill(kRecords);
  it().rekey();
  start(" --rate 150");
  ASSERT_TRUE(wait_until([&] { return it().store->reencryptions().find("pay")->done > 0; }));
  const auto after = it().rekey().second;
  ASSERT_TRUE(it().ends("complete")) << it().job().dump();
  EXPECT_EQ(it().census(), (std::map<std::string, std::int64_t>{{after, kRecords}}));
  expect_all(kRecords);
}

TEST_P(ReencryptionTest, X5_AfterAnImportRecordsComeUnderAKeyOfOnesOwnHoweverOftenItIsSaid) {
  constexpr int kRecords = 100;
  it().fill(kRecords);
  const auto after = it().rekey().second;
  DataParts parts(it());
  parts.reencryption.follow_import("pay", "instance");
  parts.reencryption.follow_import("pay", "instance");
  ASSERT_TRUE(it().ends("complete")) << it().job().dump();
  EXPECT_EQ(it().census(), (std::map<std::string, std::int64_t>{{after, kRecords}}));
  EXPECT_EQ(it().store->reencryptions().find("pay")->done, kRecords);
  it().store->specifications().add({"copied", "[]", "x", "x", {}, {}, 0}, {});
  EXPECT_TRUE(it().keys->generations("copied").empty());
  parts.reencryption.follow_import("copied", "instance");
  EXPECT_TRUE(instance::DataKeys::active(it().keys->generations("copied")));
}

// Of two replicas the one that works is stopped; the other continues, and what the first wanted to
// write when it wakes is not written.
TEST(ReencryptionReplicas, Fault136_AReplicaThatWasStoppedWritesNothingAfterTheOtherTookOver) {
  if (!Postgres::missing().empty()) GTEST_SKIP() << Postgres::missing() << " is not installed";
  constexpr int kRecords = 600;
  DataInstance a(Postgres::shared().new_database());
  InstanceProcess b(a.process.agent);
  b.store_url = a.process.store_url;
  b.start();
  a.specify();
  a.fill(kRecords);
  const auto after = a.rekey().second;
  // So slow that it does not end before the one that holds it is stopped.
  ASSERT_EQ(a.run("crypto", "reencrypt start pay --rate 10").status, 0);
  ASSERT_TRUE(wait_until([&] {
    const auto job = a.store->reencryptions().find("pay").value();
    return job.done > 0 && !job.holder.empty();
  }));
  const auto first = a.store->reencryptions().find("pay")->holder;
  const std::string replica_a = a.process.json("app", "status").at("replica");
  auto& stopped = first == replica_a ? a.process : b;
  stopped.signal(SIGSTOP);
  ASSERT_TRUE(wait_until([&] {
    const auto job = a.store->reencryptions().find("pay").value();
    return job.holder != first && !job.holder.empty();
  }));
  EXPECT_EQ(a.store->reencryptions().find("pay")->state, "running")
      << "it was not done when it was taken";
  stopped.signal(SIGCONT);
  ASSERT_EQ(a.run("crypto", "reencrypt pause pay").status, 0);
  a.sql("UPDATE reencryptions SET rate = 1000");
  ASSERT_EQ(a.run("crypto", "reencrypt resume pay").status, 0);
  ASSERT_TRUE(a.ends("complete"));
  EXPECT_EQ(a.census(), (std::map<std::string, std::int64_t>{{after, kRecords}}));
  EXPECT_EQ(a.store->reencryptions().find("pay")->done, kRecords);
  for (int i = 0; i < kRecords; ++i) ASSERT_TRUE(a.holds(i)) << i;
}

}  // namespace
}  // namespace keyagent::test
