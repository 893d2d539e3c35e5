// SPDX-License-Identifier: Apache-2.0
// The real keyagentd and keyagent with an instance.

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "agent/base/error.h"
#include "tests/e2e/host.h"
#include "tests/link/test_instance.h"

namespace keyagent::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class HostLink : public testing::Test {
 protected:
  HostLink() {
    host_.start();
    // Smaller and faster than the key that an agent creates by default.
    host_.json("key create credentials --purpose transport --algorithm ec-p256");
  }
  void keep_token(unsigned mode = 0600) {
    host_.write("token", instance_.make_token() + "\n");
    std::filesystem::permissions(host_.file("token"), std::filesystem::perms(mode));
  }
  std::string enroll(const std::string& more) const {
    return "enroll " + instance_.url() + " " + more;
  }
  void enroll() {
    keep_token();
    const auto enrolled = host_.keyagent(enroll("--token-file token --wait --timeout 60"));
    ASSERT_EQ(enrolled.status, 0) << enrolled.output << host_.story();
  }
  std::string state() const { return host_.json("status").at("link").at("state"); }

  TestInstance instance_;
  Host host_;
};

TEST_F(HostLink, T1_OneCommandEnrollsAndACredentialIsAvailable) {
  instance_.put_credential("db-main", "s3cret");
  enroll();
  const auto link = host_.json("status").at("link");
  EXPECT_EQ(link.at("state"), "connected");
  EXPECT_EQ(link.at("agent"), "test");
  EXPECT_EQ(link.at("tls_version"), "TLSv1.3");
  EXPECT_THAT(link.at("tls_group").get<std::string>(),
              testing::AnyOf(testing::StrCaseEq("X25519MLKEM768"), testing::StrCaseEq("x25519")));
  for (const char* name : {"serial", "not_after", "peer", "peer_serial", "peer_not_after",
                           "auth_kid", "last_heartbeat"})
    EXPECT_NE(link.at(name), "") << name;
  EXPECT_THAT(host_.keyagent("status").output,
              AllOf(HasSubstr("link      connected"), HasSubstr("last heartbeat")));
  EXPECT_EQ(host_.keyagent("credential get db-main").output, "s3cret");
  EXPECT_EQ(host_.keyagent("credential get db-main -o out").status, 0);
  EXPECT_EQ(host_.read("out"), "s3cret");
  EXPECT_EQ(std::filesystem::status(host_.file("out")).permissions(), std::filesystem::perms(0600));
  EXPECT_EQ(host_.json("credential list").at("credentials").at(0).at("name"), "db-main");
  EXPECT_THAT(host_.audit(), HasSubstr("credential.get"));
  for (const auto& finding : host_.json("doctor").at("findings"))
    EXPECT_NE(finding.at("subject"), "link") << finding;
}

TEST_F(HostLink, R2_TokenAsAnArgumentOrInAFileThatOthersReadIsRefused) {
  const std::string token = instance_.make_token();
  const auto argument = host_.keyagent(enroll("--token " + token));
  EXPECT_EQ(argument.status, 2);
  EXPECT_THAT(argument.output, AllOf(HasSubstr("must not be an argument"), Not(HasSubstr(token))));
  keep_token(0644);
  const auto loose = host_.keyagent(enroll("--token-file token"));
  EXPECT_EQ(loose.status, 2);
  EXPECT_THAT(loose.output, HasSubstr("chmod"));
  EXPECT_EQ(instance_.requests("/v1/enrolments"), 0u);
  EXPECT_EQ(host_.keyagent(enroll("--token - --wait"), "printf %s '" + token + "' |").status, 0);
  EXPECT_THAT(host_.audit() + read_text(host_.log()), Not(HasSubstr(token.substr(48))));
}

TEST_F(HostLink, R2_PendingIsReportedWithTheFingerprintAndContinuesAutomatically) {
  const auto asked = host_.keyagent(enroll("--instance " + instance_.fingerprint()));
  EXPECT_EQ(asked.status, 0);
  EXPECT_THAT(asked.output,
              HasSubstr("pending: ask for approval of fingerprint " + instance_.auth_kid("test")));
  EXPECT_EQ(host_.keyagent("credential get db-main").status, 3);
  EXPECT_EQ(host_.keyagent(enroll("--instance " + instance_.fingerprint() + " --wait --timeout 1"))
                .status,
            7);
  instance_.approve("test");
  const auto waited =
      host_.keyagent(enroll("--instance " + instance_.fingerprint() + " --wait --timeout 60"));
  EXPECT_EQ(waited.status, 0) << waited.output;
  EXPECT_EQ(state(), "connected");
}

TEST_F(HostLink, R2_WrongInstanceIsExit6AndLeavesNothing) {
  const TestInstance other;
  const auto refused = host_.keyagent(enroll("--instance " + other.fingerprint()));
  EXPECT_EQ(refused.status, 6) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("PEER_KEY"));
  EXPECT_EQ(state(), "not_enrolled");
}

TEST_F(HostLink, R10_RekeyWaitsForTheInstancesConfirmationThroughARestart) {
  enroll();
  const std::string old = instance_.transport_kid("test");
  instance_.go_away();
  EXPECT_EQ(host_.keyagent("rekey credentials --wait --timeout 3").status, 7);
  EXPECT_EQ(host_.stop(), 0) << host_.story();
  host_.start();
  EXPECT_EQ(instance_.transport_kid("test"), old);
  instance_.come_back();
  const auto waited = host_.keyagent("rekey credentials --wait --timeout 120");
  EXPECT_EQ(waited.status, 0) << waited.output << host_.story();
  EXPECT_NE(instance_.transport_kid("test"), old);
  EXPECT_THAT(host_.audit(), HasSubstr("link.confirmed"));
  ASSERT_TRUE(wait_until([this] { return state() == "connected"; }));
}

TEST_F(HostLink, Fault087_KilledBetweenTheInstancesSwitchAndItsOwnRecordBothKeysOpen) {
  enroll();
  const std::string old = instance_.transport_kid("test");
  host_.write("text", "a secret");
  ASSERT_EQ(host_.keyagent("seal text --key credentials -o sealed-old").status, 0);
  instance_.mischief.lost_confirmation = true;
  ASSERT_EQ(host_.keyagent("rekey credentials").status, 0);
  ASSERT_TRUE(wait_until([&] { return instance_.transport_kid("test") != old; })) << host_.story();
  host_.kill();
  host_.start();
  // The instance is asked again, and again its answer is lost.
  const auto asked = instance_.requests("/v1/transport/");
  ASSERT_TRUE(wait_until([&] { return instance_.requests("/v1/transport/") > asked; }));
  ASSERT_EQ(host_.keyagent("seal text --key credentials -o sealed-new").status, 0);
  const auto both_open = [this] {
    for (const char* sealed : {"sealed-old", "sealed-new"})
      EXPECT_EQ(host_.keyagent(std::string("open ") + sealed).output, "a secret") << sealed;
  };
  both_open();
  EXPECT_EQ(host_.json("key show " + old).at("state"), "deactivated") << "it opens, and stays";
  EXPECT_EQ(Host::count(host_.audit(), "link.confirmed"), 0);
  instance_.mischief.lost_confirmation = false;
  const auto waited = host_.keyagent("rekey credentials --wait --timeout 120");
  EXPECT_EQ(waited.status, 0) << waited.output << host_.story();
  EXPECT_EQ(Host::count(host_.audit(), "\"link.confirmed\""), 1);
  EXPECT_EQ(host_.json("key show credentials").at("kid"), instance_.transport_kid("test"));
  both_open();
}

TEST_F(HostLink, R14_TheSameIdOnAnotherTokenIsRefusedAtOnce) {
  enroll();
  Host clone;
  clone.start();
  const auto refused = clone.keyagent(enroll("--token - --agent-id test"),
                                      "printf %s '" + instance_.make_token() + "' |");
  EXPECT_EQ(refused.status, 6) << refused.output;
  EXPECT_EQ(state(), "connected");
}

TEST_F(HostLink, CallersThatWaitForTheInstanceDoNotBlockOthers) {
  enroll();
  instance_.put_credential("db-main", "s3cret");
  ASSERT_TRUE(wait_until([this] { return host_.keyagent("credential get db-main").status == 0; }));
  instance_.mischief.silent = true;
  std::atomic<int> waiting{0}, busy{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 30; ++i) {
    callers.emplace_back([&] {
      auto client = host_.client();
      wire::Request request;
      request.mutable_credential_get()->set_name("db-main");
      ++waiting;
      try {
        client.call(request);
      } catch (const Error& error) {
        busy += error.code() == Code::kBusy;
      }
      --waiting;
    });
  }
  ASSERT_TRUE(wait_until([&] { return busy > 20; }));
  auto client = host_.client();
  EXPECT_EQ(client.call(AgentProcess::status_request()).status().agent_id(), "test");
  EXPECT_GT(waiting, 0) << "no caller still waited for the instance";
  instance_.mischief.silent = false;
  for (auto& each : callers) each.join();
}

TEST_F(HostLink, LeavingIsOneCommandAndTheKeysStay) {
  enroll();
  EXPECT_EQ(host_.keyagent("leave").status, 0);
  EXPECT_EQ(state(), "not_enrolled");
  EXPECT_EQ(host_.json("key show identity").at("state"), "active");
  EXPECT_FALSE(std::filesystem::exists(host_.state() / "link.json"));
}

}  // namespace
}  // namespace keyagent::test
