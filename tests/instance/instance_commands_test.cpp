// SPDX-License-Identifier: Apache-2.0
// What the commands of `keyagent instance` show and refuse, on a real instance.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class InstanceCommands : public testing::Test {
 protected:
  InstanceCommands() {
    instance_.start();
    for (const auto& [name, role] : {std::pair{"root", "admin"},
                                     {"crypto", "cryptographic-manager"},
                                     {"ops", "operator"},
                                     {"audit", "auditor"}}) {
      instance_.add_user(name, role);
      EXPECT_EQ(instance_.log_in(name).status, 0);
    }
  }
  void trust(const std::string& id) {
    SimulatedAgent agent(instance_, id);
    EXPECT_EQ(agent.enrol(instance_.json("crypto", "token").at("token")).at("state"), "trusted");
  }

  InstanceProcess instance_;
};

TEST_F(InstanceCommands, ACredentialForUnknownAgentsOrGroupsSaysSo) {
  trust("known-1");
  ASSERT_EQ(instance_.keyagent("ops", "groups known-1 web").status, 0);
  std::ofstream(instance_.work.path() / "value.json") << R"({"username":"u","password":"p"})";
  const std::string put = "credential put noted --from value.json ";
  const auto silent = instance_.keyagent("ops", put + "--agent known-1 --group web");
  EXPECT_THAT(silent.output, Not(HasSubstr("note:")));
  const auto told = instance_.keyagent("ops", put + "--agent konwn-1 --group wbe");
  EXPECT_EQ(told.status, 0) << "they may come later: " << told.output;
  EXPECT_THAT(told.output, HasSubstr("no agent has the id konwn-1"));
  EXPECT_THAT(told.output, HasSubstr("no agent is in the group wbe"));
  EXPECT_THAT(instance_.keyagent("ops", "credential assign noted --agent other-1").output,
              HasSubstr("no agent has the id other-1"));
  const Json answer = instance_.json("ops", "credential assign noted --group wbe --agent known-1");
  EXPECT_EQ(answer.at("unknown_groups"), Json::array({"wbe"}));
  EXPECT_FALSE(answer.contains("unknown_agents"));
}

TEST_F(InstanceCommands, T5_TheHostsCheckPrintsTheFingerprintThatIsPinned) {
  EXPECT_THAT(instance_.keyinstanced("check").output,
              HasSubstr("\nfingerprint: " + instance_.fingerprint + " "));
}

TEST_F(InstanceCommands, EventsAreTheNewestUnlessANumberIsGiven) {
  for (const char* name : {"counted-1", "counted-2", "counted-3"}) trust(name);
  const Json all = instance_.json("audit", "events --count 1000").at("events"),
             last = instance_.json("audit", "events --count 3").at("events"),
             first = instance_.json("audit", "events --after 0 --count 3").at("events");
  ASSERT_EQ(last.size(), 3u);
  EXPECT_GE(last.at(0).at("seq"), all.at(all.size() - 3).at("seq"));
  EXPECT_LT(last.at(0).at("seq"), last.at(2).at("seq"));
  EXPECT_EQ(first.at(0).at("seq"), 1);
}

TEST_F(InstanceCommands, ListsHaveHeadsAndTakeNoUnknownState) {
  trust("listed-1");
  const auto agents = instance_.keyagent("audit", "agents").output;
  EXPECT_EQ(agents.find("AGENT"), 0u) << agents;
  EXPECT_THAT(agents, HasSubstr("FINGERPRINT"));
  EXPECT_THAT(instance_.keyagent("audit", "events --count 5").output, HasSubstr("OUTCOME"));
  EXPECT_THAT(instance_.keyagent("root", "users").output, HasSubstr("NAME"));
  for (const char* list : {"task list --state bogus", "exchange list --state bogus",
                           "exchange list --side bogus", "decision list --state bogus"})
    EXPECT_EQ(instance_.keyagent("root", list).status, 2) << list;
}

TEST_F(InstanceCommands, TimesMayBeWrittenAsTheHelpShowsThem) {
  trust("timed-1");
  const auto shown = [&](const std::string& command, const char* option) {
    const auto help = instance_.keyagent("ops", command + " --help").output;
    std::smatch time;
    EXPECT_TRUE(std::regex_search(help, time, std::regex(std::string(option) + " (\\S+Z)")));
    return std::string(option) + " " + time[1].str();
  };
  const auto submitted =
      instance_.keyagent("ops", "task submit note --agent timed-1 " + shown("task submit", "--at"));
  EXPECT_EQ(submitted.status, 0) << submitted.output;
  const std::string peer = instance_.json("crypto", "exchange identity").at("ca");
  ASSERT_EQ(instance_.keyagent("crypto", "peer add berlin --identity=" + peer).status, 0);
  const auto automatic =
      instance_.keyagent("crypto", "peer automatic berlin --frequency recurring-clone " +
                                       shown("peer automatic", "--until"));
  EXPECT_EQ(automatic.status, 0) << automatic.output;
  EXPECT_THAT(automatic.output, HasSubstr("until 2027-01-01T00:00:00.000Z"));
}

}  // namespace
}  // namespace keyagent::test
