// SPDX-License-Identifier: Apache-2.0
// What workers ask of the gate, without an instance.

#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kTaskPolicy = R"(
rules:
  - name: admin
    allow: [create, status, admin, open, sign]
    who: {user: "1000"}
  - name: workers
    allow: [work]
    keys: ["deploy-*"]
    credentials: ["db-*"]
    who: {user: "1001"}
)";

class GateTaskTest : private NoLink, public GateTest {
 protected:
  static constexpr std::uint32_t kWorker = 1001;
  GateTaskTest() { policy_ = policy::parse_policy(kTaskPolicy, "policy.yml"); }

  void link() { gate_ = std::make_unique<Gate>(options_, services(*this), timer_.timer()); }
  void task_take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                 wire::TaskTakeReply& reply) override {
    uids_.push_back(uid);
    if (fails_) throw Error(Code::kKeyState, "not enrolled");
    if (!there_) return;
    reply.mutable_task()->set_id("0123456789abcdef0123456789abcdef");
    reply.mutable_task()->set_handler(request.handler());
    reply.mutable_task()->set_attempt(3);
    reply.mutable_task()->set_input(R"({"canary":4711})");
  }
  std::string task_credential(std::uint32_t, const wire::TaskCredentialRequest&) const override {
    return credential_;
  }
  void credential(const std::string& name, wire::CredentialGetReply& reply) override {
    reply.set_value("value of " + name);
  }
  bool runs_tasks(std::uint32_t uid) const override { return uid == runs_as_; }
  void task_end(std::uint32_t, const wire::TaskEndRequest&) override {}
  static wire::Request take(const std::string& handler) {
    wire::Request request;
    request.mutable_task_take()->set_handler(handler);
    return request;
  }
  std::string credential_ = "db-main";
  std::uint32_t runs_as_ = 0;
  bool there_ = false, fails_ = false;
  std::vector<std::uint32_t> uids_;
};

TEST_F(GateTaskTest, TaskThatIsTakenAndItsEndAreRecordedAndAPollIsNot) {
  link();
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(ask(kWorker, take("deploy-web")).has_failure());
  fails_ = true;
  EXPECT_EQ(ask(kWorker, take("deploy-web")).failure().code(), wire::KEY_STATE);
  EXPECT_THAT(audit_lines(), Not(Contains(HasSubstr("task.take"))));
  fails_ = false;
  there_ = true;
  EXPECT_TRUE(ask(kWorker, take("deploy-web")).task_take().has_task());
  EXPECT_THAT(audit_lines().back(), AllOf(HasSubstr("task.take"), HasSubstr("deploy-web"),
                                          HasSubstr("attempt 3"), Not(HasSubstr("canary"))));
  wire::Request end;
  end.mutable_task_end()->set_handler("deploy-web");
  end.mutable_task_end()->set_id("0123456789abcdef0123456789abcdef");
  end.mutable_task_end()->set_outcome("done");
  end.mutable_task_end()->set_result("canary");
  EXPECT_FALSE(ask(kWorker, end).has_failure());
  EXPECT_THAT(audit_lines().back(), AllOf(HasSubstr("task.end"), HasSubstr("0123456789abcdef"),
                                          HasSubstr("done"), Not(HasSubstr("canary"))));
  EXPECT_THAT(uids_, testing::Each(kWorker));
}

TEST_F(GateTaskTest, R5_HandlerThatNoRuleNamesIsRefusedBeforeTheInstanceIsAsked) {
  link();
  const auto refused = ask(kWorker, take("backup"));
  EXPECT_EQ(refused.failure().code(), wire::DENIED);
  EXPECT_THAT(refused.failure().text(), HasSubstr("keyagent why work backup"));
  EXPECT_EQ(ask(kAdmin, take("deploy-web")).failure().code(), wire::DENIED);
  EXPECT_TRUE(uids_.empty());
  EXPECT_THAT(audit_lines().back(), HasSubstr("refused: task.take"));
  EXPECT_EQ(ask(kWorker, take("")).failure().code(), wire::USAGE);
}

TEST_F(GateTaskTest, WhyNamesTheRuleOfAHandlerEvenWhenAKeyHasItsName) {
  link();
  create("deploy-web", "sign");
  wire::Request request;
  request.mutable_why()->set_action("work");
  request.mutable_why()->set_key("deploy-web");
  EXPECT_TRUE(ask(kWorker, request).why().allowed());
  EXPECT_EQ(ask(kWorker, request).why().rule(), "workers");
  EXPECT_FALSE(ask(kAdmin, request).why().allowed());
}

TEST_F(GateTaskTest, WhyReportsWhetherATaskOfAHandlerMayHaveACredential) {
  link();
  wire::Request request;
  request.mutable_why()->set_action("work");
  request.mutable_why()->set_key("deploy-web");
  request.mutable_why()->set_credential("nobody-has-this");
  const auto refused = ask(kWorker, request).why();
  EXPECT_FALSE(refused.allowed());
  EXPECT_THAT(refused.reason(), HasSubstr("with credential nobody-has-this"));
  request.mutable_why()->set_action("sign");
  EXPECT_EQ(ask(kWorker, request).failure().code(), wire::USAGE);
}

TEST_F(GateTaskTest, AgentWithoutALinkAnswersUnsupported) {
  EXPECT_EQ(ask(kWorker, take("deploy-web")).failure().code(), wire::UNSUPPORTED);
}

TEST_F(GateTaskTest, Fault161_ATaskHasACredentialThatTheRuleOfItsHandlerNames) {
  link();
  wire::Request request;
  request.mutable_task_credential()->set_handler("deploy-web");
  EXPECT_EQ(ask(kWorker, request).task_credential().value(), "value of db-main");
  credential_ = "root-password";
  const auto refused = ask(kWorker, request);
  EXPECT_EQ(refused.failure().code(), wire::DENIED);
  EXPECT_THAT(refused.failure().text(), HasSubstr("credentials: [root-password]"));
  credential_ = "db-main";
  EXPECT_EQ(ask(kWorker + 1, request).failure().code(), wire::DENIED);
}

TEST_F(GateTaskTest, Fault161_WhileAHandlerRunsAsAUserThatUserHasNoOtherCredential) {
  policy_ = policy::parse_policy(
      "rules:\n  - name: all\n    allow: [credential]\n    who: {anyone: true}\n", "policy.yml");
  link();
  wire::Request request;
  request.mutable_credential_get()->set_name("db-main");
  EXPECT_EQ(ask(kWorker, request).credential_get().value(), "value of db-main");
  runs_as_ = kWorker;
  EXPECT_EQ(ask(kWorker, request).failure().code(), wire::DENIED);
  EXPECT_EQ(ask(kWorker + 1, request).credential_get().value(), "value of db-main");
}

}  // namespace
}  // namespace keyagent::gate
