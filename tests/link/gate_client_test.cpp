// SPDX-License-Identifier: Apache-2.0
// The agent's own requests wait for no one else's.

#include "agent/link/gate_client.h"

#include "tests/link/link_fixture.h"

namespace keyagent::link {
namespace {

class GateClientTest : public gate::GateTest {
 protected:
  GateClient client_{[this](const auto& who, wire::Request request, auto reply) {
    gate().handle(who, std::move(request), std::move(reply));
  }};
};

// Anyone who finishes in the token takes the next request that waits there: with a queue that never
// empties that would be forever.
TEST_F(GateClientTest, CallEndsWithItsOwnAnswerWhileOthersWaitForTheToken) {
  options_.token_operations = 1;
  options_.deadline = 60s;
  create("signer", "sign");
  test::shim::set_faults("C_Sign:every=1:hang");
  test::shim::reset_counts();
  std::atomic<bool> done{false};
  std::thread caller([&] {
    EXPECT_FALSE(client_.call(sign_request("signer")).sign().signature().empty());
    done = true;
  });
  ASSERT_TRUE(comes_to_run("C_Sign"));
  std::vector<std::shared_ptr<gate::Asked>> others;
  for (int i = 0; i < 10; ++i) others.push_back(ask_later(kAdmin, sign_request("signer")));
  test::shim::release_hangs();  // the first; the next one is held again
  caller.join();
  EXPECT_TRUE(done);
  ASSERT_TRUE(comes_to_run("C_Sign", 2));
  EXPECT_FALSE(others.back()->answered());
  test::shim::clear();
  test::shim::release_hangs();
  for (const auto& each : others) EXPECT_FALSE(each->wait().has_failure());
}

TEST_F(GateClientTest, RefusalIsAnErrorWithItsCodeTextAndKid) {
  const auto key = create("signer", "sign");
  wire::Request request;
  request.mutable_key_state()->set_key("signer");
  request.mutable_key_state()->set_state("suspended");
  client_.call(request);
  try {
    client_.call(sign_request("signer"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kKeyState);
    EXPECT_EQ(error.kid(), key.kid());
    EXPECT_THAT(error.what(), HasSubstr("suspended"));
  }
}

TEST_F(GateClientTest, EveryCallIsRecordedAsTheAgentsOwn) {
  create("signer", "sign");
  client_.call(sign_request("signer"), "instance");
  EXPECT_THAT(audit_lines().back(), HasSubstr("internal:instance"));
}

TEST_F(GateClientTest, StoppedClientBeginsNothing) {
  client_.stop();
  try {
    wire::Request request;
    request.mutable_status();
    client_.call(request);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kBusy);
  }
}

}  // namespace
}  // namespace keyagent::link
