// SPDX-License-Identifier: Apache-2.0
// Findings of `keyagent doctor` about the link, fixed by exactly what is printed (tests/FIXES.md):
// revoked keys of the link, a revoked or suspended agent, a lost token, a unit without a network.

#include <sstream>

#include "tests/daemon/unit_sandbox.h"
#include "tests/e2e/fixes.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class LinkFixes : public WholeSystem {
 protected:
  void SetUp() override {
    bring_up();
    enrol();
    put("backup", "s3cr3t");
    ASSERT_TRUE(gives("backup", "s3cr3t"));
  }
  std::map<std::string, std::string> words() const {
    return {{"keyagent instance",
             "keyagent instance --profile " + (instance_.work.path() / "alice.json").string()},
            {"FILE", "fresh-token"}};
  }
  // At the instance, then here: what an agent needs that enrolls again.
  void enroll_again(const std::string& id) {
    ASSERT_TRUE(fixes_.reports(id));
    const auto finding = fixes_.find(id);
    ASSERT_TRUE(finding);
    const auto& all = finding->at("commands");
    ASSERT_GE(all.size(), 2u);
    std::filesystem::remove(host_.file("fresh-token"));
    auto here = words();
    here["AGENT"] = "test";
    here["URL"] = instance_.api_url();
    fixes_.run(fixes_.command(id, all.size() - 2), here);
    fixes_.run(fixes_.command(id, all.size() - 1), here);
    EXPECT_TRUE(fixes_.is_fixed(id));
    EXPECT_TRUE(link_becomes("connected"));
    EXPECT_TRUE(gives("backup", "s3cr3t"));
  }
  std::string state_of(const std::string& kid) {
    return host_.json("key show -- " + kid).at("state");
  }

  Fixes fixes_{host_};
};

// The instance would never confirm the successor of a revoked key: the enrollment does.
TEST_F(LinkFixes, Fix_LinkKeyRevoked_BothKeysAreReplacedByOneEnrollment) {
  const Json before = link();
  for (const char* key : {"identity", "credentials"}) {
    ASSERT_EQ(host_.keyagent(std::string("key revoke ") + key + " --yes").status, 0);
    // What an operator tries first, and what waits then.
    ASSERT_EQ(host_.keyagent(std::string("rekey ") + key).status, 0);
  }
  enroll_again("link-key-revoked");
  EXPECT_NE(link().at("auth_kid"), before.at("auth_kid"));
  EXPECT_NE(link().at("transport_kid"), before.at("transport_kid"));
  EXPECT_EQ(agent().at("auth_kid"), link().at("auth_kid"));
  EXPECT_EQ(agent().at("transport_kid"), link().at("transport_kid"));
  EXPECT_EQ(state_of(before.at("auth_kid")), "compromised");
  EXPECT_FALSE(fixes_.find("rekey-waits"));
  EXPECT_TRUE(fixes_.is_fixed("rekey-unfinished"));
  // Their successors are rekeyed as ever, with the instance's confirmation.
  for (const char* key : {"identity", "credentials"}) {
    const auto again = host_.keyagent(std::string("rekey ") + key + " --wait --timeout 60");
    EXPECT_EQ(again.status, 0) << again.output << told();
  }
  EXPECT_TRUE(gives("backup", "s3cr3t"));
}

TEST_F(LinkFixes, Fix_LinkKeyRevoked_NoTokenOfTheInstanceNoWayBack) {
  ASSERT_EQ(host_.keyagent("key revoke identity --yes").status, 0);
  ASSERT_EQ(instance_.keyagent("alice", "token -o " + host_.file("any").string()).status, 0);
  EXPECT_NE(host_.keyagent("enroll " + instance_.api_url() + " --replace --token-file any").status,
            0);
  EXPECT_THAT(get("backup"), Not(HasSubstr("s3cr3t")));
  // Its key is in effect here, and unknown there: as refused as before.
  const bool still = wait_until([&] {
    return fixes_.find("link-revoked") || fixes_.find("link-unreachable") ||
           fixes_.find("link-faulty") || fixes_.find("link-refused");
  });
  EXPECT_TRUE(still) << fixes_.doctor() << told();
}

// The instance was not asked, so the revoked key stays the one in its place.
TEST_F(LinkFixes, Fix_LinkKeyRevoked_ARekeyAloneChangesNothing) {
  const std::string kid = link().at("transport_kid");
  ASSERT_EQ(host_.keyagent("key revoke credentials --yes").status, 0);
  ASSERT_EQ(host_.keyagent("rekey credentials").status, 0);
  const auto waits = [&] {
    const Json all = host_.json("rekey credentials --status").at("rekeys");
    return all.at(0).at("step") != "generated" || all.at(0).at("failures").get<int>() > 0;
  };
  EXPECT_TRUE(wait_until(waits)) << told();
  EXPECT_EQ(link().at("transport_kid"), kid);
  EXPECT_TRUE(fixes_.find("link-key-revoked"));
}

TEST_F(LinkFixes, Fix_LinkRevoked_ComesBackByATokenForItsId) {
  ASSERT_EQ(instance_.keyagent("alice", "revoke test --reason stolen").status, 0);
  ASSERT_TRUE(link_becomes("refused_by_peer"));
  enroll_again("link-revoked");
}

TEST_F(LinkFixes, Fix_LinkRefused_ASuspendedAgentIsResumed) {
  ASSERT_EQ(instance_.keyagent("alice", "suspend test --reason audit").status, 0);
  ASSERT_TRUE(link_becomes("refused_by_peer"));
  fixes_.expect_fixed("link-refused", words());
  EXPECT_TRUE(gives("backup", "s3cr3t"));
}

TEST_F(LinkFixes, Fix_TokenLost_ANewTokenAndOneEnrollment) {
  ASSERT_EQ(host_.stop(), 0);
  std::filesystem::remove_all(host_.folder() / "tokens");
  std::filesystem::create_directory(host_.folder() / "tokens");
  host_.hsm.add_token(host_.hsm.label());
  host_.token_uri = "pkcs11:token=" + host_.hsm.label();
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  enroll_again("token-lost");
}

std::string without_settings_of(std::string unit, const std::string& drop_in) {
  std::istringstream lines(drop_in);
  for (std::string line; std::getline(lines, line);) {
    const auto end = line.find('=');
    if (end == line.npos) continue;
    const std::string key = "\n" + line.substr(0, end + 1);
    for (auto at = unit.find(key); at != unit.npos; at = unit.find(key))
      unit.erase(at, unit.find('\n', at + 1) - at);
  }
  return unit;
}

TEST_F(LinkFixes, Fix_LinkNoNetwork_TheDropInGivesTheUnitOne) {
  if (::geteuid() != 0) GTEST_SKIP() << "a sandbox with mounts of its own needs root";
  if (try_command("systemd-analyze --version 2>&1").status != 0)
    GTEST_SKIP() << "systemd-analyze, which knows the sets of system calls, is not installed";
  if (!mounts_can_be_private()) GTEST_SKIP() << "this chroot cannot make mounts private";
  const auto shipped = std::filesystem::path(KEYAGENT_SYSTEMD) / "keyagentd@.service";
  const auto start_in = [&](const std::filesystem::path& unit) {
    const UnitSandbox sandbox(unit, {host_.folder()}, {KEYAGENTD});
    host_.enter_sandbox = [&] { sandbox.enter(); };
    host_.seal_sandbox = [&] { sandbox.seal(); };
    host_.start();
  };
  ASSERT_EQ(host_.stop(), 0);
  start_in(shipped);
  ASSERT_TRUE(host_.serving()) << host_.story();
  ASSERT_TRUE(fixes_.reports("link-no-network"));
  const auto told_at_once =
      host_.keyagent("enroll " + instance_.api_url() +
                     " --agent-id other --instance=" + instance_.fingerprint + " --replace");
  EXPECT_THAT(told_at_once.output, HasSubstr("PrivateNetwork=no"));
  host_.shell("mkdir units; echo 'echo $* >>systemctl.log' >bin/systemctl; chmod +x bin/systemctl");
  const Json commands = fixes_.find("link-no-network")->at("commands");
  ASSERT_EQ(commands.size(), 4u);
  for (std::size_t i = 0; i < commands.size(); ++i)
    fixes_.run(fixes_.command("link-no-network", i),
               {{"/etc/systemd/system", host_.file("units").string()}, {"NAME", "test"}});
  EXPECT_EQ(host_.read("systemctl.log"), "daemon-reload\nrestart keyagentd@test\n");
  const auto drop_in = host_.read("units/keyagentd@test.service.d/network.conf");
  host_.write("merged", without_settings_of(read_text(shipped), drop_in) + drop_in);
  ASSERT_EQ(host_.stop(), 0);
  start_in(host_.file("merged"));
  EXPECT_TRUE(fixes_.is_fixed("link-no-network"));
  EXPECT_TRUE(link_becomes("connected"));
}

}  // namespace
}  // namespace keyagent::test
