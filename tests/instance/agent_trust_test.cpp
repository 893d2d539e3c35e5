// SPDX-License-Identifier: Apache-2.0
// What people do with the trust in an agent, on a real store.

#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "agent/instance/fleet/agents.h"
#include "agent/store/agents.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

class AgentTrust : public testing::Test {
 protected:
  void add(const std::string& state) {
    store::Agent agent;
    agent.id = "web1";
    agent.auth_kid = "kid";
    agent.state = state;
    ASSERT_TRUE(store_.agents().add(agent));
  }
  Code revoke(Agents::Applies when) {
    return code_of([&] { agents_.apply(TrustVerb::kRevoke, "web1", "", "lost", "ops", when); });
  }
  std::string state() { return store_.agents().find("web1").value().state; }

  test::TempFolder folder_;
  test::FakeClock clock_;
  store::Store store_{{"sqlite://" + (folder_.path() / "store/instance.db").string()}};
  Recorder recorder_{store_, clock_};
  NoFollowers followers_;
  Links links_{store_, clock_, std::chrono::seconds(15), followers_};
  InstanceConfig config_;
  HostKeys keys_{config_};  // none is used
  Authority authority_{config_, keys_, store_, recorder_, clock_};
  Agents agents_{FleetParts{.keys = keys_,
                            .authority = authority_,
                            .store = store_,
                            .links = links_,
                            .recorder = recorder_,
                            .clock = clock_,
                            .followers = followers_}};
};

TEST_F(AgentTrust, Fault147_Fault159_AnAgentThatEnrolledMeanwhileIsNotRevokedByOne) {
  for (const char* enrolled : {"trusted", "suspended"}) {
    if (!store_.agents().find("web1")) add(enrolled);
    auto agent = store_.agents().find("web1").value();
    agent.state = enrolled;
    ASSERT_TRUE(store_.agents().update(agent));
    EXPECT_EQ(revoke(Agents::Applies::kUnlessEnrolled), Code::kBusy);
    EXPECT_EQ(state(), enrolled);
  }
  EXPECT_EQ(revoke(Agents::Applies::kAlways), Code::kOk);
  EXPECT_EQ(state(), "revoked");
}

TEST_F(AgentTrust, Fault159_AnAgentThatIsNotEnrolledIsRevokedByOne) {
  add("pending");
  EXPECT_EQ(revoke(Agents::Applies::kUnlessEnrolled), Code::kOk);
  EXPECT_EQ(state(), "revoked");
}

}  // namespace
}  // namespace keyagent::instance
