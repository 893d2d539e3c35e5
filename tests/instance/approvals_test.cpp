// A real instance whose configuration asks for a second person.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"
#include "tests/support/code_of.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class ApprovalsTest : public testing::Test {
 protected:
  ApprovalsTest() {
    it_.agent.stop();
    it_.agent.set_policy(
        AgentProcess::allowing("create, public, sign, seal, open, reseal, rekey, status, import"));
    it_.agent.start();
    it_.extra += "approvals: 2\n";
    it_.start();
    for (const auto& [name, role] : {std::pair{"root", "admin"},
                                     {"crypto", "cryptographic-manager"},
                                     {"second", "cryptographic-manager"},
                                     {"ops", "operator"},
                                     {"desk", "operator"},
                                     {"audit", "auditor"}}) {
      it_.add_user(name, role);
      EXPECT_EQ(it_.log_in(name).status, 0);
    }
  }
  int run(const std::string& user, const std::string& words) {
    last_ = it_.keyagent(user, words);
    return last_.status;
  }
  // The id of what waits now.
  std::string pending() {
    const Json all = it_.json("audit", "decision list").at("decisions");
    return all.empty() ? "none" : all.at(0).at("id").get<std::string>();
  }
  int approve(const std::string& user, const std::string& id) {
    return run(user, "decision approve " + id);
  }
  Json peers() { return it_.json("audit", "peer list").at("peers"); }

  InstanceProcess it_;
  CommandResult last_;
};

TEST_F(ApprovalsTest, Fault159_APeerAndItsPolicyNeedASecondPersonEach) {
  const std::string identity(43, 'A');
  ASSERT_EQ(run("crypto", "peer add berlin --identity=" + identity), 0) << last_.output;
  EXPECT_THAT(last_.output, HasSubstr("keyagent instance decision approve"));
  EXPECT_TRUE(peers().empty());
  const auto id = pending();
  EXPECT_EQ(approve("crypto", id), 3);
  EXPECT_EQ(approve("ops", id), 3);
  EXPECT_EQ(approve("audit", id), 3);
  EXPECT_TRUE(peers().empty());
  ASSERT_EQ(approve("second", id), 0) << last_.output;
  ASSERT_EQ(approve("second", id), 0) << last_.output;  // said again
  ASSERT_EQ(peers().size(), 1u);
  ASSERT_EQ(run("second", "peer automatic berlin --frequency recurring-clone"), 0) << last_.output;
  EXPECT_TRUE(peers().at(0).at("automatic").is_null());
  EXPECT_EQ(approve("second", pending()), 3);
  ASSERT_EQ(approve("crypto", pending()), 0) << last_.output;
  EXPECT_FALSE(peers().at(0).at("automatic").is_null());
  // Less needs nobody else.
  ASSERT_EQ(run("crypto", "peer automatic berlin"), 0) << last_.output;
  EXPECT_TRUE(peers().at(0).at("automatic").is_null());
}

TEST_F(ApprovalsTest, Fault159_ATokenWithGroupsIsGoodOnceAnOperatorHasApprovedIt) {
  const std::string token = it_.json("crypto", "token --group db").at("token");
  SimulatedAgent early(it_, "web1");
  EXPECT_EQ(code_of([&] { early.enrol(token); }), Code::kDenied);
  EXPECT_EQ(approve("second", pending()), 3);  // gives no groups either
  const auto id = pending();
  ASSERT_EQ(approve("ops", id), 0) << last_.output;
  EXPECT_THAT(it_.json("audit", "decision show " + id).dump(), Not(HasSubstr("hash")));
  SimulatedAgent agent(it_, "web1");
  EXPECT_EQ(agent.enrol(token).at("state"), "trusted");
  EXPECT_EQ(it_.json("audit", "agents web1").at("agents").at(0).at("groups"), Json{"db"});
  // So does one that inherits; any other needs nobody.
  EXPECT_EQ(run("crypto", "token --agent web1 --inherit"), 0);
  EXPECT_NE(pending(), "none");
  ASSERT_EQ(run("crypto", "decision reject " + pending()), 0) << last_.output;
  EXPECT_EQ(run("crypto", "token --agent web2"), 0);
  EXPECT_EQ(pending(), "none");
  EXPECT_EQ(run("crypto", "groups web1 payroll"), 3);
}

TEST_F(ApprovalsTest, Fault159_RulesThatLetSomebodyDecryptNeedAPersonWhoGainsNothing) {
  const auto rules = [&](const std::string& whom) {
    std::ofstream(it_.work.path() / "access.json")
        << R"([{"rule":"r","effect":"allow","uses":["decrypt"],)" << whom << "}]";
  };
  rules(R"("users":["desk"])");
  ASSERT_EQ(run("crypto", "specification create pay --access access.json"), 0) << last_.output;
  EXPECT_THAT(it_.keyagent("audit", "specification list").output, Not(HasSubstr("pay")));
  ASSERT_EQ(approve("second", pending()), 0) << last_.output;
  rules(R"("users":["desk"],"roles":["cryptographic-manager"])");
  ASSERT_EQ(run("crypto", "specification access pay --from access.json"), 0) << last_.output;
  EXPECT_EQ(approve("second", pending()), 3);
  EXPECT_THAT(last_.output, HasSubstr("your own role"));
  // Somebody changes it meanwhile: what was asked for is no longer what it would be.
  rules("\"users\":[\"nobody\"]");
  std::ofstream(it_.work.path() / "none.json") << "[]";
  const auto id = pending();
  ASSERT_EQ(run("second", "specification access pay --from none.json"), 0) << last_.output;
  EXPECT_EQ(approve("root", id), 3);
  EXPECT_EQ(it_.json("audit", "decision show " + id).at("decision").at("state"), "failed");
}

TEST_F(ApprovalsTest, Fault159_NobodyTakesAnotherRole) {
  EXPECT_EQ(run("root", "users root --role operator"), 3);
  EXPECT_THAT(last_.output, HasSubstr("another admin"));
  EXPECT_EQ(run("root", "status"), 0);
  EXPECT_EQ(run("crypto", "users crypto --role admin"), 3);
}

TEST_F(ApprovalsTest, Fault159_ACredentialIsRemovedByTwo) {
  std::ofstream(it_.work.path() / "value.json") << R"({"token":"t"})";
  ASSERT_EQ(run("ops", "credential put db --type api-token --from value.json"), 0) << last_.output;
  ASSERT_EQ(run("ops", "credential remove db"), 0) << last_.output;
  EXPECT_THAT(last_.output, Not(HasSubstr("is removed")));
  EXPECT_EQ(run("audit", "credential list"), 0);
  EXPECT_THAT(last_.output, HasSubstr("db"));
  ASSERT_EQ(approve("desk", pending()), 0) << last_.output;
  EXPECT_EQ(run("audit", "credential list"), 0);
  EXPECT_THAT(last_.output, Not(HasSubstr("db")));
}

}  // namespace
}  // namespace keyagent::test
