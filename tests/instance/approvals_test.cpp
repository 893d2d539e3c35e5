// SPDX-License-Identifier: Apache-2.0
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
  // Less needs no one else.
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
  // So does one that inherits; any other needs no one.
  EXPECT_EQ(run("crypto", "token --agent web1 --inherit"), 0);
  EXPECT_NE(pending(), "none");
  ASSERT_EQ(run("crypto", "decision reject " + pending()), 0) << last_.output;
  EXPECT_EQ(run("crypto", "token --agent web2"), 0);
  EXPECT_EQ(pending(), "none");
  EXPECT_EQ(run("crypto", "groups web1 payroll"), 3);
}

TEST_F(ApprovalsTest, Fault159_RulesThatAllowDecryptionNeedAnApproverWhoGainsNothing) {
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
  // Someone changes it meanwhile: what was asked for is no longer what it would be.
  rules("\"users\":[\"nobody\"]");
  std::ofstream(it_.work.path() / "none.json") << "[]";
  const auto id = pending();
  ASSERT_EQ(run("second", "specification access pay --from none.json"), 0) << last_.output;
  EXPECT_EQ(approve("root", id), 3);
  EXPECT_EQ(it_.json("audit", "decision show " + id).at("decision").at("state"), "failed");
}

TEST_F(ApprovalsTest, Fault159_UsersCannotChangeTheirOwnRole) {
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

TEST_F(ApprovalsTest, Fault159_AnAgentIsRevokedByTwoAndSuspendedByOne) {
  SimulatedAgent agent(it_, "web1");
  ASSERT_EQ(agent.enrol(it_.json("crypto", "token").at("token")).at("state"), "trusted");
  const auto state = [this] {
    return it_.json("audit", "agents web1").at("agents").at(0).at("state").get<std::string>();
  };
  ASSERT_EQ(run("crypto", "revoke web1 --reason stolen"), 0) << last_.output;
  EXPECT_THAT(last_.output, HasSubstr("keyagent instance decision approve"));
  EXPECT_EQ(state(), "trusted");
  const auto id = pending();
  EXPECT_EQ(approve("crypto", id), 3);
  EXPECT_EQ(approve("ops", id), 3);
  // What cannot wait.
  ASSERT_EQ(run("crypto", "suspend web1"), 0) << last_.output;
  EXPECT_EQ(state(), "suspended");
  ASSERT_EQ(run("crypto", "resume web1"), 0) << last_.output;
  const auto link = agent.connect();
  ASSERT_EQ(approve("second", id), 0) << last_.output;
  EXPECT_EQ(state(), "revoked");
  EXPECT_NE(SimulatedAgent::end_of(*link), Code::kOk);
  EXPECT_THROW(agent.call("GET", "/v1/credentials"), Error);
  // It enrolled again meanwhile: the request was about the other key.
  SimulatedAgent before(it_, "web2");
  before.enrol(it_.json("crypto", "token").at("token"));
  ASSERT_EQ(run("crypto", "revoke web2"), 0) << last_.output;
  SimulatedAgent after(it_, "web2");
  ASSERT_EQ(after.enrol(it_.json("crypto", "token --agent web2").at("token"), true).at("state"),
            "trusted");
  EXPECT_EQ(approve("second", pending()), 3);
  after.call("GET", "/v1/credentials");
}

TEST_F(ApprovalsTest, Fault159_UsersAndTheirRolesNeedTwoAdmins) {
  it_.add_user("boss", "admin");
  ASSERT_EQ(it_.log_in("boss").status, 0);
  const auto password = [this](const std::string& name, const std::string& text) {
    const auto path = it_.work.path() / (name + ".pw");
    std::filesystem::remove(path);
    std::ofstream(path) << text << "\n";
    std::filesystem::permissions(path, std::filesystem::perms(0400));
    return path.string();
  };
  const auto row = [this](const std::string& name) {
    const Json all = it_.json("root", "users").at("users");
    for (const auto& each : all)
      if (each.at("name") == name)
        return each.at("role").get<std::string>() + (each.at("disabled") ? " disabled" : "");
    return std::string("none");
  };
  ASSERT_EQ(run("root",
                "users bob --role auditor --password-file " + password("bob", "correct horse bob")),
            0)
      << last_.output;
  EXPECT_EQ(row("bob"), "none");
  auto id = pending();
  EXPECT_THAT(it_.json("audit", "decision show " + id).dump(), Not(HasSubstr("argon2")));
  EXPECT_EQ(approve("root", id), 3);
  EXPECT_EQ(approve("crypto", id), 3);
  ASSERT_EQ(approve("boss", id), 0) << last_.output;
  EXPECT_EQ(row("bob"), "auditor");
  EXPECT_EQ(it_.log_in("bob").status, 0);
  // A role, and the password of another admin: who sets it could approve as that one.
  ASSERT_EQ(run("root", "users bob --role operator"), 0) << last_.output;
  EXPECT_EQ(row("bob"), "auditor");
  ASSERT_EQ(run("root", "users boss --password-file " + password("stolen", "another horse")), 0)
      << last_.output;
  EXPECT_EQ(run("boss", "status"), 0) << "no session ended, no password changed";
  ASSERT_EQ(run("boss", "decision reject " + pending()), 0) << last_.output;
  id = pending();
  // Disabling is done at once, enabling is not; and what was asked for before is about another row.
  ASSERT_EQ(run("root", "users bob --disable"), 0) << last_.output;
  EXPECT_EQ(row("bob"), "auditor disabled");
  EXPECT_EQ(approve("boss", id), 3);
  ASSERT_EQ(run("root", "users bob --enable"), 0) << last_.output;
  EXPECT_EQ(row("bob"), "auditor disabled");
  ASSERT_EQ(approve("boss", pending()), 0) << last_.output;
  EXPECT_EQ(row("bob"), "auditor");
  // Two remain: neither can disable the other. Only root on the host can.
  EXPECT_EQ(run("root", "users boss --disable"), 3);
  EXPECT_THAT(last_.output, HasSubstr("keyinstanced --config FILE user boss --disable"));
  EXPECT_EQ(run("root", "users root --disable"), 3);
  EXPECT_EQ(row("boss"), "admin");
  it_.add_user("third", "admin");
  ASSERT_EQ(run("root", "users third --disable"), 0) << last_.output;
  // A user may change the user's own password without an approval.
  ASSERT_EQ(run("boss", "users boss --password-file " + password("boss", "a fresh horse boss")), 0)
      << last_.output;
  EXPECT_EQ(it_.log_in("boss").status, 0);
}

}  // namespace
}  // namespace keyagent::test
