// SPDX-License-Identifier: Apache-2.0
// R16: the daemon warns that a key is unused, then suspends it; resumed, it is the same key.

#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

TEST(DaemonIdle, R16_AnUnusedKeyIsSuspendedAndKeepsItsKidWhenResumed) {
  AgentProcess agent;
  agent.extra = "rekey:\n  keys:\n    releases: {idle: 4s}\n";
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  const auto kid = agent.create("releases", "sign", "ec-p256").kid();
  agent.create("other", "sign", "ec-p256");
  const auto sign = [&](const std::string& key) {
    auto connection = agent.client();
    try {
      connection.call(AgentProcess::sign_request(key));
      return Code::kOk;
    } catch (const Error& error) {
      return error.code();
    }
  };
  const auto show = [&] {
    wire::Request request;
    request.mutable_key_show()->set_key("releases");
    auto connection = agent.client();
    return connection.call(request).key_show().key();
  };
  ASSERT_EQ(sign("releases"), Code::kOk);
  // It checks at its start and each minute. Half of the idle time is over before all of it is.
  EXPECT_TRUE(wait_until([&] {
    agent.stop();
    agent.start();
    return read_text(agent.state() / "audit/audit.log").find("key.idle") != std::string::npos ||
           show().state() == "suspended";
  })) << agent.story();
  EXPECT_TRUE(wait_until([&] {
    agent.stop();
    agent.start();
    return show().state() == "suspended";
  })) << agent.story();
  EXPECT_EQ(sign("releases"), Code::kKeyState);
  EXPECT_EQ(exit_code(Code::kKeyState), 3);
  EXPECT_EQ(sign("other"), Code::kOk) << "it has no such limit";
  const auto audit = read_text(agent.state() / "audit/audit.log");
  EXPECT_THAT(audit, HasSubstr("key.suspend"));
  wire::Request resume;
  resume.mutable_key_state()->set_key("releases");
  resume.mutable_key_state()->set_state("active");
  auto connection = agent.client();
  connection.call(resume);
  EXPECT_EQ(sign("releases"), Code::kOk);
  EXPECT_EQ(show().kid(), kid);
}

}  // namespace
}  // namespace keyagent::test
