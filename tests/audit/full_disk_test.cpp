// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 166: what was admitted is recorded although the disk fills, and service resumes.

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "agent/base/error.h"
#include "tests/audit/audit_folder.h"
#include "tests/support/code_of.h"
#include "tests/support/small_disk.h"

namespace keyagent::audit {
namespace {

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!disk_.mounted()) GTEST_SKIP() << "only root may mount a file system";
  }
  std::uint64_t used() const {
    std::uint64_t count = 0;
    for (const auto& line : folder_.lines()) count += line.find("\"what\":\"sign\"") != line.npos;
    return count;
  }
  bool resumes(AuditLog& log) {
    for (int i = 0; i < 10000; ++i) {
      if (code_of([&] { log.reserve(); }) == Code::kOk) return true;
      folder_.clock().advance(std::chrono::seconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  AuditFolder folder_;
  const test::SmallDisk disk_{folder_.folder(), "600k"};
};

TEST_F(FullDisk, Fault078_Fault166_WhatWasAdmittedIsRecordedAndServiceResumes) {
  AuditLog log(folder_.options());
  std::atomic<std::uint64_t> answered{0};
  std::atomic<int> refused{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      while (refused < 100) {
        try {
          auto room = log.reserve();
          std::this_thread::yield();  // the token signs
          log.record(event("sign"), std::move(room));
          ++answered;
        } catch (const Error&) {
          ++refused;
        }
      }
    });
  }
  while (answered < 20 && refused < 100) std::this_thread::yield();
  disk_.fill();
  for (auto& caller : callers) caller.join();
  EXPECT_GE(answered, 20u);
  log.flush();
  EXPECT_EQ(used(), answered) << "an answer without a record";
  EXPECT_FALSE(log.healthy());
  EXPECT_THAT(log.fault(), ::testing::HasSubstr("is full"));
  disk_.make_room();
  EXPECT_TRUE(resumes(log));
  EXPECT_TRUE(log.healthy());
  log.record_now(event("sign"));
  EXPECT_EQ(used(), answered + 1);
  EXPECT_TRUE(verify(folder_.folder(), {}).ok);
}

// An operation that is in the token when the disk fills.
TEST_F(FullDisk, Fault166_ARoomIsKeptWhileTheOperationRuns) {
  AuditLog log(folder_.options());
  std::vector<AuditLog::Room> rooms;
  for (int i = 0; i < 8; ++i) rooms.push_back(log.reserve());
  disk_.fill();
  while (code_of([&] { log.record(event("open")); }) == Code::kOk) {
  }
  Event longest = event("sign");
  longest.detail = std::string(100000, '\x01');
  for (auto& room : rooms) log.record(longest, std::move(room));
  log.flush();
  EXPECT_EQ(used(), 8u);
  EXPECT_TRUE(verify(folder_.folder(), {}).ok);
}

}  // namespace
}  // namespace keyagent::audit
