// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>

#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST_F(GateTest, Fault010_HungTokenIsAnsweredAtTheDeadlineAndTheRestStillWorks) {
  options_.token_operations = 1;
  options_.queue = 1;
  options_.deadline = 1s;
  create("data", "sign", "ec-p256");
  test::shim::set_faults("C_Sign:every=1:hang");
  const auto started = std::chrono::steady_clock::now();
  auto hung = std::make_shared<Asked>();
  std::thread inside([&] { gate().handle(user(kAdmin), sign_request("data"), hung); });
  EXPECT_EQ(hung->wait().failure().code(), wire::DEADLINE);
  EXPECT_GE(std::chrono::steady_clock::now() - started, 1s);
  EXPECT_EQ(gate().counters().running, 1u) << "a call that hangs keeps its slot";
  wire::Request status;
  status.mutable_status();
  EXPECT_TRUE(ask(kAdmin, status).has_status());
  const auto waiting = ask_later(kAdmin, sign_request("data"));
  const auto busy = ask(kAdmin, sign_request("data")).failure();
  EXPECT_EQ(busy.code(), wire::BUSY);
  EXPECT_GT(busy.retry_after_ms(), 0u);
  EXPECT_EQ(waiting->wait().failure().code(), wire::DEADLINE);
  test::shim::clear();
  test::shim::release_hangs();
  inside.join();
  EXPECT_EQ(gate().counters().running, 0u);
  EXPECT_EQ(gate().counters().queued, 0u);
}

TEST_F(GateTest, Fault011_BurstOnASlowTokenIsBoundedAndFair) {
  options_.token_operations = 1;
  options_.queue = 32;
  create("data", "sign", "ec-p256");
  // The first one hangs until it is released, so the queue stays full without a time limit.
  test::shim::set_faults("C_Sign:n=1:hang; C_Sign:every=1:delay=1");
  test::shim::reset_counts();
  std::vector<std::shared_ptr<Asked>> asked;
  gate();  // made here, not by two threads at once
  std::thread first([&] { ask(kAdmin, sign_request("data")); });
  if (!comes_to_run("C_Sign")) {
    test::shim::release_hangs();
    first.join();
    FAIL() << "the first request never came to the token";
  }
  int busy = 0;
  for (int i = 0; i < 100; ++i) {
    auto one = ask_later(kAdmin, sign_request("data"));
    if (one->answered() && one->wait().failure().code() == wire::BUSY) ++busy;
    asked.push_back(std::move(one));
  }
  EXPECT_EQ(busy, 68);
  EXPECT_EQ(gate().counters().queued, 32u);
  // Another user finds a place in the full queue, and its turn comes before the rest of the burst.
  const auto other = ask_later(kSigner, sign_request("data"));
  EXPECT_FALSE(other->answered());
  EXPECT_EQ(gate().counters().queued, 32u);
  test::shim::release_hangs();
  int signed_for_burst = 0;
  for (const auto& one : asked) signed_for_burst += one->wait().has_sign();
  EXPECT_EQ(signed_for_burst, 31) << "the newest one made room";
  EXPECT_TRUE(other->wait().has_sign());
  first.join();
  std::vector<std::string> uses;
  for (const auto& line : audit_lines())
    if (line.find("\"what\":\"sign\"") != line.npos) uses.push_back(line);
  const auto turn = std::find_if(uses.begin(), uses.end(), [](const auto& line) {
    return line.find("uid 1002") != line.npos;
  });
  EXPECT_LE(turn - uses.begin(), 2) << "behind " << turn - uses.begin() << " of the burst";
}

TEST_F(GateTest, Fault023_AbsentTokenMakesOneRecordForAThousandItems) {
  create("data", "sign", "ec-p256");
  test::shim::set_faults(
      "C_SignInit:every=1:rv=0x30; C_GenerateRandom:every=1:rv=0x30; "
      "C_OpenSession:every=1:rv=0x30; "
      "C_Initialize:every=1:rv=0x30");
  const auto before = audit_lines().size();
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(ask(kAdmin, sign_request("data")).failure().code(), wire::TOKEN_FAULT) << i;
  const auto minutes =
      std::chrono::ceil<std::chrono::minutes>(std::chrono::steady_clock::now() - started).count();
  EXPECT_LE(audit_lines().size(), before + 3 + static_cast<std::size_t>(minutes));
}

TEST_F(GateTest, RefusalsOfManyThreadsAreAllAnsweredAndRecorded) {
  create("data", "sign", "ec-p256");
  const auto before = audit_lines().size();
  std::vector<std::thread> threads;
  std::atomic<int> denied{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 12; ++i)
        denied += ask(kStranger, sign_request("data")).failure().code() == wire::DENIED;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(denied, 96) << "fewer than a caller has records";
  EXPECT_EQ(audit_lines().size(), before + 97);
}

TEST_F(GateTest, UnknownOperationIsAUsageError) {
  EXPECT_EQ(ask(kAdmin, wire::Request()).failure().code(), wire::USAGE);
}

}  // namespace
}  // namespace keyagent::gate
