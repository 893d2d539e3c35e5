// SPDX-License-Identifier: Apache-2.0
// What the agent knows of its tasks, through crashes and for no longer than it must.

#include "agent/link/task_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::link {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Stage = TaskEntry::Stage;

std::string id_of(int number) {
  std::string digits = std::to_string(number);
  return std::string(32 - digits.size(), '0') + digits;
}

class TaskJournalTest : public testing::Test {
 protected:
  TaskJournal open() { return TaskJournal(folder(), clock_, limits_); }
  std::filesystem::path folder() const { return folder_.path() / "tasks"; }
  static TaskEntry entry(int number) {
    TaskEntry out;
    out.id = id_of(number);
    out.handler = "deploy";
    out.lease = "lease-" + std::to_string(number);
    out.uid = 1001;
    out.attempt = 1;
    return out;
  }
  static void end(TaskJournal& journal, int number, const std::string& result = "r") {
    journal.start(entry(number));
    journal.end(id_of(number), {"done", "ended with 0", result});
  }
  static std::vector<std::string> ids(const TaskJournal& journal) {
    std::vector<std::string> out;
    for (const auto& each : journal.list()) out.push_back(each.id);
    return out;
  }
  std::size_t files() const {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(folder())) ++count;
    return count;
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  TaskJournal::Limits limits_;
};

TEST_F(TaskJournalTest, R11_OutcomeIsThereAfterARestartAndForItsOwnerOnly) {
  {
    auto journal = open();
    end(journal, 1, "line\nwith \x01 and \"");
  }
  struct stat info {};
  ASSERT_EQ(::stat((folder() / (id_of(1) + ".json")).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  auto journal = open();
  EXPECT_EQ(journal.waiting(), 1u);
  const auto next = journal.next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->lease, "lease-1");
  EXPECT_EQ(next->uid, 1001u);
  EXPECT_EQ(next->end, (TaskOutcome{"done", "ended with 0", "line\nwith \x01 and \""}));
}

TEST_F(TaskJournalTest, R11_OutcomesComeInTheOrderInWhichTheyEndedAlsoAfterARestart) {
  {
    auto journal = open();
    for (const int number : {3, 1, 2}) journal.start(entry(number));
    for (const int number : {2, 3, 1}) journal.end(id_of(number), {"done", {}, {}});
  }
  auto journal = open();
  std::vector<std::string> order;
  while (const auto next = journal.next()) {
    order.push_back(next->id);
    journal.answered(*next, true);
  }
  EXPECT_THAT(order, ElementsAre(id_of(2), id_of(3), id_of(1)));
}

TEST_F(TaskJournalTest, R11_TornFileIsSetAsideAndTheOthersAreRead) {
  {
    auto journal = open();
    end(journal, 1);
    end(journal, 2);
  }
  const auto torn = folder() / (id_of(1) + ".json");
  for (const std::uintmax_t size : {0, 20}) {
    std::filesystem::resize_file(torn, size);
    std::ofstream(folder() / ".half.XX") << "{";
    auto journal = open();
    EXPECT_THAT(ids(journal), ElementsAre(id_of(2)));
    EXPECT_TRUE(std::filesystem::exists(torn.string() + ".unreadable"));
    EXPECT_FALSE(std::filesystem::exists(folder() / ".half.XX"));
    std::filesystem::rename(torn.string() + ".unreadable", torn);
    std::ofstream(torn, std::ios::app) << std::string(30, 'x');
  }
}

TEST_F(TaskJournalTest, EntryThatIsNotAsItIsWrittenIsRefused) {
  const std::string good = to_text(entry(1));
  EXPECT_EQ(parse_task_entry(good).handler, "deploy");
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    EXPECT_THROW(parse_task_entry(text), Error) << from << " as " << to;
  };
  refused("\"started\"", "\"going\"");
  refused("\"format\": 1", "\"format\": 2");
  refused("\"uid\": 1001", "\"uid\": -1");
  refused("\"uid\": 1001", "\"uid\": 4294967296");
  refused("\"uid\"", "\"gid\"");
  refused(id_of(1), "../../x");
  refused("\"order\": 0", "\"order\": 0, \"more\": 1");
  EXPECT_THROW(parse_task_entry("[]"), Error);
}

TEST_F(TaskJournalTest, WhatTheInstanceHasIsForgottenAfterADayAndWhatItHasNotIsNot) {
  auto journal = open();
  end(journal, 1);
  journal.answered(*journal.next(), true);
  end(journal, 2);
  clock_.advance(std::chrono::hours(23));
  journal.start(entry(3));
  EXPECT_THAT(ids(journal), ElementsAre(id_of(1), id_of(2), id_of(3)));
  clock_.advance(std::chrono::hours(2));
  journal.touch(id_of(3));
  journal.start(entry(4));
  EXPECT_THAT(ids(journal), ElementsAre(id_of(2), id_of(3), id_of(4)));
  clock_.advance(std::chrono::hours(25));
  journal.start(entry(5));
  EXPECT_THAT(ids(journal), ElementsAre(id_of(2), id_of(5)));
  EXPECT_EQ(files(), 2u);
}

TEST_F(TaskJournalTest, IsBoundedInNumberAndBytes) {
  limits_.answered = 3;
  limits_.started = 2;
  auto journal = open();
  for (int i = 1; i <= 5; ++i) {
    end(journal, i);
    journal.answered(*journal.next(), i % 2 == 0);
  }
  EXPECT_THAT(ids(journal), ElementsAre(id_of(3), id_of(4), id_of(5)));
  for (int i = 6; i <= 8; ++i) journal.start(entry(i));
  EXPECT_THAT(ids(journal), ElementsAre(id_of(3), id_of(4), id_of(5), id_of(7), id_of(8)));
  limits_.answered_bytes = 1 << 20;
  limits_.answered = limits_.started = 100;
  auto small = open();
  for (int i = 10; i < 20; ++i) {
    end(small, i, std::string(300 << 10, 'x'));
    small.answered(*small.next(), true);
  }
  EXPECT_EQ(small.list().size(), 5u) << "two that run, three of 300 KiB";
}

TEST_F(TaskJournalTest, IsFullAtTheLimitOfWaitingOutcomes) {
  limits_.waiting = 2;
  auto journal = open();
  end(journal, 1);
  EXPECT_FALSE(journal.full());
  end(journal, 2);
  EXPECT_TRUE(journal.full());
  journal.answered(*journal.next(), true);
  EXPECT_FALSE(journal.full());
}

TEST_F(TaskJournalTest, AnswerToAnOlderDeliveryLeavesTheNewerOneWaiting) {
  auto journal = open();
  end(journal, 1);
  const auto first = *journal.next();
  journal.deliver_again(id_of(1), "another-lease");
  journal.answered(first, false);
  ASSERT_TRUE(journal.next());
  EXPECT_EQ(journal.next()->lease, "another-lease");
  EXPECT_EQ(journal.next()->end.result, "r");
}

TEST_F(TaskJournalTest, OnlyWhatRunsEnds) {
  auto journal = open();
  EXPECT_THROW(journal.end(id_of(1), {"done", {}, {}}), Error);
  end(journal, 1);
  EXPECT_THROW(journal.end(id_of(1), {"failed", {}, {}}), Error);
  EXPECT_EQ(journal.next()->end.outcome, "done");
}

TEST_F(TaskJournalTest, WhatTheDiskRefusesHasNotHappened) {
  auto journal = open();
  journal.start(entry(1));
  std::filesystem::rename(folder(), folder_.path() / "away");
  std::ofstream(folder()) << "in the way";
  EXPECT_THROW(journal.end(id_of(1), {"done", {}, {}}), Error);
  EXPECT_EQ(journal.find(id_of(1))->stage, Stage::kStarted);
  std::filesystem::remove(folder());
  std::filesystem::rename(folder_.path() / "away", folder());
  journal.end(id_of(1), {"done", {}, {}});
  EXPECT_EQ(journal.waiting(), 1u);
  journal.forget_all();
  EXPECT_THAT(ids(journal), IsEmpty());
  EXPECT_EQ(files(), 0u);
}

TEST_F(TaskJournalTest, Fault161_AnEntryOfAnOlderAgentHasNoCredentialAndIsOfItsUid) {
  const auto old = parse_task_entry(
      R"({"format":1,"order":1,"id":"00000000000000000000000000000001","handler":"deploy",)"
      R"("stage":"started","lease":"l","uid":1001,"attempt":1,"outcome":"","text":"",)"
      R"("result":"","changed":""})");
  EXPECT_EQ(old.credential, "");
  EXPECT_EQ(old.runs_as, 1001u);
  auto now = entry(1);
  now.credential = "db-main";
  now.runs_as = 7;
  EXPECT_EQ(parse_task_entry(to_text(now)).credential, "db-main");
  EXPECT_EQ(parse_task_entry(to_text(now)).runs_as, 7u);
}

}  // namespace
}  // namespace keyagent::link
