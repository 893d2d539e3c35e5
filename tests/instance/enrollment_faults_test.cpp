// SPDX-License-Identifier: Apache-2.0
// What an enrollment depends on is taken away between its steps; and its certificate is one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/store/certificates.h"
#include "agent/store/store.h"
#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class EnrollmentFaults : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    instance_ = new InstanceProcess;
    instance_->start();
    for (const auto& [name, role] :
         {std::pair{"root", "admin"}, {"crypto", "cryptographic-manager"}}) {
      instance_->add_user(name, role);
      ASSERT_EQ(instance_->log_in(name).status, 0);
    }
  }
  static void TearDownTestSuite() { delete instance_; }

  std::string token(const std::string& words = {}) {
    const Json made = instance_->json("crypto", "token " + words);
    // One that gives groups, or inherits them, is good when a second person has approved it.
    if (made.contains("decision")) {
      const auto id = made.at("decision").at("id").get<std::string>();
      const auto approved = instance_->keyagent("root", "decision approve " + id);
      EXPECT_EQ(approved.status, 0) << approved.output;
    }
    return made.at("token");
  }
  Json agent(const std::string& id) {
    return instance_->json("root", "agents " + id).at("agents").at(0);
  }
  std::size_t certificates(const std::string& id) {
    return store::Store({instance_->store_url}).certificates().list(id).size();
  }
  int alarms(const std::string& about) {
    int count = 0;
    const Json all = instance_->json("root", "events --count 1000").at("events");
    for (const auto& each : all)
      count += each.at("outcome") == "alarm" && each.at("subject") == about ? 1 : 0;
    return count;
  }

  static inline InstanceProcess* instance_ = nullptr;
};

TEST_F(EnrollmentFaults, Fault146_APendingEnrollmentDoesNotReplaceAnAgentEnrolledMeanwhile) {
  SimulatedAgent thief(*instance_, "db1");
  const auto asked = thief.ask(token());
  const auto answer = thief.open(asked.at("challenge"), thief.transport);
  SimulatedAgent owner(*instance_, "db1");
  ASSERT_EQ(owner.enrol(token("--group prod")).at("state"), "trusted");
  const auto before = alarms("db1");
  EXPECT_EQ(code_of([&] {
              thief.api("POST",
                        "/v1/enrollments/" + asked.at("enrolment").get<std::string>() + "/proof",
                        {{"answer", answer}});
            }),
            Code::kExists);
  EXPECT_GT(alarms("db1"), before);
  EXPECT_EQ(agent("db1").at("auth_kid"), owner.auth.kid.text());
  EXPECT_EQ(agent("db1").at("groups"), Json::array({"prod"}));
  owner.call("GET", "/v1/credentials");
}

TEST_F(EnrollmentFaults, Fault146_AReplacementIsAnAlarmInheritsNothingAndEndsTheLink) {
  SimulatedAgent old(*instance_, "moved");
  ASSERT_EQ(old.enrol(token("--group prod")).at("state"), "trusted");
  const auto link = old.connect();
  SimulatedAgent fresh(*instance_, "moved");
  const auto before = alarms("moved");
  EXPECT_EQ(code_of([&] { fresh.enrol(token("--agent moved")); }), Code::kExists);
  EXPECT_EQ(code_of([&] { fresh.enrol(token(), true); }), Code::kDenied);
  EXPECT_EQ(alarms("moved"), before + 2) << "a replacement that was refused is an alarm, too";
  EXPECT_EQ(fresh.enrol(token("--agent moved"), true).at("state"), "trusted");
  EXPECT_EQ(alarms("moved"), before + 3);
  EXPECT_NE(SimulatedAgent::end_of(*link), Code::kOk);
  EXPECT_TRUE(agent("moved").at("groups").empty());
  SimulatedAgent third(*instance_, "moved");
  ASSERT_EQ(instance_->keyagent("root", "groups moved prod").status, 0);
  EXPECT_EQ(third.enrol(token("--agent moved --inherit"), true).at("state"), "trusted");
  EXPECT_EQ(agent("moved").at("groups"), Json::array({"prod"}));
}

TEST_F(EnrollmentFaults, Fault146_StrangersDoNotSquatAnId) {
  SimulatedAgent stranger(*instance_, "wanted");
  ASSERT_EQ(stranger.enrol().at("state"), "pending");
  SimulatedAgent second(*instance_, "wanted");
  ASSERT_EQ(second.enrol().at("state"), "pending") << "each fingerprint waits for itself";
  SimulatedAgent owner(*instance_, "wanted");
  EXPECT_EQ(owner.enrol(token("--agent wanted")).at("state"), "trusted");
  EXPECT_EQ(code_of([&] { stranger.poll(); }), Code::kDenied);
  EXPECT_NE(instance_->keyagent("crypto", "approve wanted --fingerprint=" + second.auth.kid.text())
                .status,
            0);
  EXPECT_EQ(agent("wanted").at("auth_kid"), owner.auth.kid.text());
}

TEST_F(EnrollmentFaults, Fault147_PollingAFinishedEnrollmentIssuesNoFurtherCertificate) {
  SimulatedAgent asking(*instance_, "polling");
  const auto first = asking.enrol(token()).at("certificate");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(asking.poll().at("certificate"), first);
  EXPECT_EQ(certificates("polling"), 1u);
  ASSERT_EQ(instance_->keyagent("crypto", "suspend polling").status, 0);
  EXPECT_EQ(code_of([&] { asking.poll(); }), Code::kKeyState);
  ASSERT_EQ(instance_->keyagent("crypto", "resume polling").status, 0);
  ASSERT_EQ(asking.poll().at("certificate"), first);
  ASSERT_EQ(instance_->keyagent("crypto", "revoke polling").status, 0);
  EXPECT_EQ(code_of([&] { asking.poll(); }), Code::kKeyState);
  EXPECT_EQ(certificates("polling"), 1u);
}

TEST_F(EnrollmentFaults, Fault147_AnApprovedEnrollmentHasOneCertificateToo) {
  SimulatedAgent asking(*instance_, "approved");
  const auto kid = asking.enrol().at("fingerprint").get<std::string>();
  EXPECT_EQ(certificates("approved"), 0u);
  ASSERT_EQ(instance_->keyagent("crypto", "approve approved --fingerprint=" + kid).status, 0);
  const auto first = asking.poll().at("certificate");
  EXPECT_EQ(asking.poll().at("certificate"), first);
  EXPECT_EQ(certificates("approved"), 1u);
}

}  // namespace
}  // namespace keyagent::test
