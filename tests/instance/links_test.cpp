// SPDX-License-Identifier: Apache-2.0
// Which link is the agent's, on a real store.

#include "agent/instance/fleet/links.h"

#include <gtest/gtest.h>

#include "agent/store/agents.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

class LinkStub final : public tls::Link {
 public:
  const tls::Peer& peer() const override { return peer_; }
  bool send(std::string) override { return true; }
  void close(const std::string& reason) override { closed = reason; }
  std::string closed;

 private:
  tls::Peer peer_;
};

TEST(LinksOfAgents, Fault138_AHeartbeatOfAReplacedLinkIsNotTheAgents) {
  const test::TempFolder folder;
  const test::FakeClock clock;
  store::Store store{{"sqlite://" + (folder.path() / "store/instance.db").string()}};
  store::Agent agent;
  agent.id = agent.auth_kid = "web1";
  agent.state = "trusted";
  ASSERT_TRUE(store.agents().add(agent));
  NoFollowers followers;
  Links here{store, clock, std::chrono::seconds(15), followers};
  Links other{store, clock, std::chrono::seconds(15), followers};
  const auto first = std::make_shared<LinkStub>(), second = std::make_shared<LinkStub>(),
             third = std::make_shared<LinkStub>();
  here.enter("web1", first, {});
  EXPECT_TRUE(here.beat("web1", first.get()));
  here.enter("web1", second, {});
  EXPECT_FALSE(here.beat("web1", first.get()));
  EXPECT_TRUE(here.beat("web1", second.get()));
  other.enter("web1", third, {});
  EXPECT_EQ(second->closed, "");
  EXPECT_FALSE(here.beat("web1", second.get())) << "the store knows of the one elsewhere";
  EXPECT_EQ(second->closed, "replaced");
  EXPECT_TRUE(other.beat("web1", third.get()));
}

}  // namespace
}  // namespace keyagent::instance
