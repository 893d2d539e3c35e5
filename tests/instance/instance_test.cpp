// SPDX-License-Identifier: Apache-2.0
// A real instance, and agents that send arbitrary messages.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/instance/common/host_keys.h"
#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class InstanceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    instance_ = new InstanceProcess;
    instance_->start();
    for (const auto& [name, role] : {std::pair{"root", "admin"},
                                     {"crypto", "cryptographic-manager"},
                                     {"ops", "operator"},
                                     {"audit", "auditor"}}) {
      instance_->add_user(name, role);
      ASSERT_EQ(instance_->log_in(name).status, 0);
    }
  }
  static void TearDownTestSuite() { delete instance_; }

  std::string token(const std::string& words = {}) {
    return instance_->json("crypto", "token " + words).at("token");
  }
  // A trusted agent of the test's own.
  std::unique_ptr<SimulatedAgent> trusted(const std::string& id) {
    auto agent = std::make_unique<SimulatedAgent>(*instance_, id);
    EXPECT_EQ(agent->enrol(token()).at("state"), "trusted");
    return agent;
  }
  Json agent(const std::string& id) {
    return instance_->json("audit", "agents " + id).at("agents").at(0);
  }
  void put(const std::string& name, const std::string& words,
           const std::string& secret = "s3cr3t") {
    std::ofstream(instance_->work.path() / "value.json")
        << "{\"username\":\"backup\",\"password\":\"" << secret << "\"}";
    const auto result =
        instance_->keyagent("ops", "credential put " + name + " --from value.json " + words);
    ASSERT_EQ(result.status, 0) << result.output;
  }
  std::string events() { return instance_->keyagent("audit", "events --count 1000").output; }

  static inline InstanceProcess* instance_ = nullptr;
};

// The session is in it.
TEST_F(InstanceTest, Fault041_ALoginRemovesWhatAKilledOneLeft) {
  const auto old = instance_->work.path() / ".audit.json.tmp-AbC123",
             fresh = instance_->work.path() / ".audit.json.tmp-Fresh1";
  for (const auto& each : {old, fresh}) std::ofstream(each) << "session";
  std::filesystem::last_write_time(
      old, std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
  ASSERT_EQ(instance_->log_in("audit").status, 0);
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_TRUE(std::filesystem::exists(fresh)) << "another login may be writing it";
}

TEST_F(InstanceTest, R2_ATokenIsGoodOnceAndNothingApprovesItself) {
  SimulatedAgent first(*instance_, "token-1"), second(*instance_, "token-2");
  const auto once = token();
  EXPECT_EQ(first.enrol(once).at("state"), "trusted");
  EXPECT_EQ(code_of([&] { second.enrol(once); }), Code::kDenied);
  EXPECT_EQ(second.enrol().at("state"), "pending");
  EXPECT_EQ(agent("token-2").at("shown"), "pending");
  EXPECT_EQ(agent("token-1").at("approved_by"), "token of crypto");
}

TEST_F(InstanceTest, R2_AnApprovalNamesTheFingerprint) {
  SimulatedAgent asking(*instance_, "approve-1");
  const auto fingerprint = asking.enrol().at("fingerprint").get<std::string>();
  EXPECT_EQ(fingerprint, asking.auth.kid.text());
  const auto wrong = instance_->keyagent(
      "crypto", "approve approve-1 --fingerprint=" + asking.transport.kid.text());
  EXPECT_EQ(wrong.status, 6) << wrong.output;
  EXPECT_EQ(asking.poll().at("state"), "pending");
  EXPECT_EQ(instance_->keyagent("ops", "approve approve-1 --fingerprint=" + fingerprint).status, 3);
  EXPECT_EQ(instance_->keyagent("crypto", "approve approve-1 --fingerprint=" + fingerprint).status,
            0);
  EXPECT_EQ(asking.poll().at("state"), "trusted");
  EXPECT_EQ(asking.call("GET", "/v1/credentials").at("credentials").size(), 0u);
}

TEST_F(InstanceTest, R2_ATokenForOneAgentIsForNoOther) {
  SimulatedAgent other(*instance_, "named-2");
  const auto named = token("--agent named-1");
  EXPECT_EQ(code_of([&] { other.enrol(named); }), Code::kDenied);
  SimulatedAgent right(*instance_, "named-1");
  EXPECT_EQ(right.enrol(named).at("state"), "trusted");
}

TEST_F(InstanceTest, R2_AnAgentThatCannotOpenItsChallengeStaysUnknown) {
  SimulatedAgent lying(*instance_, "lying-1");
  const auto mine = lying.transport;
  lying.transport = lying.backend->add("other", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const Json asked = lying.ask(token());
  EXPECT_EQ(code_of([&] {
              lying.api("POST",
                        "/v1/enrolments/" + asked.at("enrolment").get<std::string>() + "/proof",
                        {{"answer", to_base64url(Bytes(32, 7))}});
            }),
            Code::kIntegrity);
  EXPECT_EQ(instance_->keyagent("audit", "agents lying-1").status, 2);
  EXPECT_THAT(events(), HasSubstr("did not open its challenge"));
}

TEST_F(InstanceTest, R2_AWrongAnswerEndsAnEnrollmentForTheRightOneToo) {
  SimulatedAgent asking(*instance_, "guessing-1");
  const auto once = token();
  const Json asked = asking.ask(once);
  const auto path = "/v1/enrolments/" + asked.at("enrolment").get<std::string>();
  const auto right = asking.open(asked.at("challenge"), asking.transport);
  const auto prove = [&](const std::string& answer) {
    return code_of([&] { asking.api("POST", path + "/proof", {{"answer", answer}}); });
  };
  EXPECT_EQ(prove(to_base64url(Bytes(32, 7))), Code::kIntegrity);
  EXPECT_EQ(prove(right), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { asking.api("GET", path + "?answer=" + right, nullptr); }), Code::kDenied);
  EXPECT_EQ(instance_->keyagent("audit", "agents guessing-1").status, 2) << "unknown";
  EXPECT_EQ(asking.enrol(once).at("state"), "trusted") << "the token was not used up";
}

TEST_F(InstanceTest, R14_TheSameIdWithAnotherKeyIsRefusedWithAnAlarm) {
  const auto first = trusted("twin-1");
  SimulatedAgent second(*instance_, "twin-1");
  EXPECT_EQ(code_of([&] { second.enrol(token()); }), Code::kExists);
  EXPECT_EQ(agent("twin-1").at("auth_kid"), first->auth.kid.text());
  EXPECT_THAT(events(), HasSubstr("alarm"));
  first->call("GET", "/v1/credentials");  // undisturbed
}

TEST_F(InstanceTest, R15_AnAgentThatLostItsTokenIsReplacedByATokenForItAndItsOldKeyIsOut) {
  const auto old = trusted("lost-1");
  SimulatedAgent fresh(*instance_, "lost-1");
  EXPECT_EQ(code_of([&] { fresh.enrol({}, true); }), Code::kDenied);
  EXPECT_EQ(code_of([&] { fresh.enrol(token(), true); }), Code::kDenied);  // for any agent
  EXPECT_EQ(fresh.enrol(token("--agent lost-1"), true).at("state"), "trusted");
  EXPECT_NE(code_of([&] { old->call("GET", "/v1/credentials"); }), Code::kOk);
  fresh.call("GET", "/v1/credentials");
}

TEST_F(InstanceTest, R3_OnlyATrustedAgentGetsACredential) {
  const auto mine = trusted("gets-1");
  put("gets", "--agent gets-1", "only for gets-1");
  EXPECT_EQ(mine->fetch("gets").at("password"), "only for gets-1");
  const auto other = trusted("gets-2");
  EXPECT_EQ(code_of([&] { other->fetch("gets"); }), Code::kDenied);
  ASSERT_EQ(instance_->keyagent("crypto", "suspend gets-1 --reason test").status, 0);
  EXPECT_EQ(code_of([&] { mine->fetch("gets"); }), Code::kKeyState);
  ASSERT_EQ(instance_->keyagent("crypto", "resume gets-1").status, 0);
  EXPECT_EQ(mine->fetch("gets").at("password"), "only for gets-1");
}

TEST_F(InstanceTest, R4_TheStoreHoldsNoPlaintextAndABlindCredentialNeverReachesTheInstance) {
  const auto mine = trusted("blind-1");
  put("open-eyed", "--agent blind-1", "Tr4nsp4rentValue");
  put("blind", "--agent blind-1 --blind", "0paqueValue");
  EXPECT_EQ(mine->fetch("open-eyed").at("password"), "Tr4nsp4rentValue");
  EXPECT_EQ(mine->fetch("blind").at("password"), "0paqueValue");
  for (const auto& each : std::filesystem::directory_iterator(instance_->work.path() / "store")) {
    const auto text = read_text(each.path());
    EXPECT_THAT(text, Not(HasSubstr("Tr4nsp4rentValue"))) << each.path();
    EXPECT_THAT(text, Not(HasSubstr("0paqueValue"))) << each.path();
  }
  EXPECT_THAT(read_text(instance_->log()), Not(HasSubstr("Tr4nsp4rentValue")));
}

TEST_F(InstanceTest, R7_TheNextTransportKeyIsTrustedOnlyWhenBothKeysOpenTheirChallenge) {
  const auto mine = trusted("rotate-1");
  put("rotates", "--agent rotate-1");
  const auto fresh = mine->backend->add("next", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto switch_to = [&](const SimulatedAgent::Rotation& begun) {
    return code_of([&] { mine->call("POST", begun.path + "/switch", Json::object()); });
  };
  const auto prove = [&](const SimulatedAgent::Rotation& begun, const Json& answers) {
    return code_of([&] { mine->call("POST", begun.path + "/proof", answers); });
  };
  for (const char* which : {"old", "new"}) {
    const auto begun = mine->begin_rotation(fresh);
    EXPECT_EQ(switch_to(begun), Code::kKeyState);
    Json wrong = begun.answers;
    wrong[which] = to_base64url(Bytes(32, 1));
    EXPECT_EQ(prove(begun, wrong), Code::kIntegrity) << which;
    EXPECT_EQ(prove(begun, begun.answers), Code::kIntegrity) << "the right one, after a wrong one";
    EXPECT_NE(switch_to(begun), Code::kOk);
    EXPECT_EQ(agent("rotate-1").at("transport_kid"), mine->transport.kid.text());
  }
  EXPECT_EQ(exit_code(Code::kIntegrity), 6);
  const Json all = instance_->json("audit", "events --count 1000").at("events");
  EXPECT_EQ(std::count_if(all.begin(), all.end(),
                          [](const Json& each) {
                            return each.at("outcome") == "alarm" &&
                                   each.at("subject") == "rotate-1" &&
                                   each.at("text").get<std::string>().find("is not trusted") !=
                                       std::string::npos;
                          }),
            2)
      << "an alarm for each wrong answer: " << all.dump(1);
  // Another agent's session cannot change this agent's key, whatever id it claims.
  const auto other = trusted("rotate-2");
  const auto theirs = mine->begin_rotation(fresh);
  EXPECT_NE(code_of([&] { other->call("POST", theirs.path + "/proof", theirs.answers); }),
            Code::kOk);
  EXPECT_NE(code_of([&] { other->call("POST", theirs.path + "/switch", Json::object()); }),
            Code::kOk);
  EXPECT_EQ(agent("rotate-1").at("transport_kid"), mine->transport.kid.text());
  mine->rotate();
  EXPECT_EQ(agent("rotate-1").at("transport_kid"), mine->transport.kid.text());
  EXPECT_EQ(mine->fetch("rotates").at("username"), "backup");
}

TEST_F(InstanceTest, R7_TheConfirmationIsSignedByTheInstance) {
  const auto mine = trusted("confirm-1");
  const auto before = mine->transport.kid.text();
  const auto jws = mine->rotate().at("confirmation").get<std::string>();
  wire::Request request;
  request.mutable_key_show()->set_key("instance-confirm");
  auto connection = instance_->agent.client();
  const auto response = connection.call(request);
  const auto& spki = response.key_show().key().spki();
  const auto key = envelope::key_of_spki(Bytes(spki.begin(), spki.end()), Purpose::kConfirm);
  const Json said = Json::parse(as_text(envelope::verify_jws(key, jws)));
  EXPECT_EQ(said.at("agent"), "confirm-1");
  EXPECT_EQ(said.at("old_kid"), before);
  EXPECT_EQ(said.at("new_kid"), mine->transport.kid.text());
}

TEST_F(InstanceTest, T9_ACertificateIsForOneAgentAndARevokedOneIsOutAtOnce) {
  const auto first = trusted("bound-1"), second = trusted("bound-2");
  auto link = first->connect();
  EXPECT_EQ(first->welcome.at("agent"), "bound-1");
  EXPECT_EQ(first->welcome.at("auth_kid"), first->auth.kid.text());
  ASSERT_EQ(instance_->keyagent("crypto", "revoke bound-1 --reason stolen").status, 0);
  EXPECT_EQ(SimulatedAgent::end_of(*link), Code::kPeer);
  EXPECT_NE(code_of([&] { first->call("GET", "/v1/credentials"); }), Code::kOk);
  second->call("GET", "/v1/credentials");
  EXPECT_EQ(agent("bound-1").at("shown"), "revoked");
  EXPECT_EQ(instance_->keyagent("crypto", "resume bound-1").status, 3);
}

TEST_F(InstanceTest, T9_ACertificateWithAnothersNameIsRefusedWithAnAlarm) {
  const auto mine = trusted("forged-1"), other = trusted("forged-2");
  put("for-forged-2", "--agent forged-2");
  // By the instance's own CA, as a fault in it would: A's key under B's name.
  instance::InstanceConfig config;
  config.agent_socket = instance_->agent.socket();
  instance::HostKeys host(config);
  const auto now = std::chrono::system_clock::now();
  const Bytes forged = host.issue(mine->chain.back(),
                                  {mine->auth.spki,
                                   pki::Use::kClient,
                                   {"forged-2"},
                                   {now - std::chrono::minutes(5), now + std::chrono::hours(1)}});
  mine->call("GET", "/v1/credentials");  // with its own
  mine->chain.front() = forged;
  EXPECT_EQ(code_of([&] { mine->fetch("for-forged-2"); }), Code::kIntegrity);
  EXPECT_NE(code_of([&] { mine->connect(); }), Code::kOk);
  const Json all = instance_->json("audit", "events --count 1000").at("events");
  const auto told = std::count_if(all.begin(), all.end(), [](const Json& each) {
    return each.at("outcome") == "alarm" && each.at("subject") == "forged-1" &&
           each.at("text") == "its certificate names DNS:forged-2";
  });
  EXPECT_EQ(told, 2) << "the request and the link";
  EXPECT_EQ(agent("forged-2").at("shown"), "down");
  EXPECT_EQ(other->fetch("for-forged-2").at("username"), "backup");
}

TEST_F(InstanceTest, T6_ALinkIsUpWhenItWasWelcomedAndASecondOneEndsTheFirst) {
  const auto mine = trusted("link-1");
  EXPECT_EQ(agent("link-1").at("shown"), "down");
  auto first = mine->connect();
  EXPECT_EQ(agent("link-1").at("shown"), "up");
  EXPECT_EQ(agent("link-1").at("tls").at("version"), "TLSv1.3");
  first->send(Json{{"type", "heartbeat"}, {"n", 41}}.dump());
  EXPECT_EQ(SimulatedAgent::receive(*first, "heartbeat").at("n"), 41);
  auto second = mine->connect();
  EXPECT_EQ(SimulatedAgent::end_of(*first), Code::kPeer);
  second->send(Json{{"type", "heartbeat"}, {"n", 42}}.dump());
  EXPECT_EQ(SimulatedAgent::receive(*second, "heartbeat").at("n"), 42);
}

TEST_F(InstanceTest,
       R10_AnOrderedRekeyReachesAnAgentThatWasAwayAndIsConfirmedByTheInstancesOwnTrust) {
  const auto mine = trusted("order-1");
  const Json order = instance_->json("crypto", "rekey order-1");
  const auto batch = order.at("batch").get<std::string>();
  const auto state = [&] {
    return instance_->json("audit", "rekeys " + batch)
        .at("rekeys")
        .at(0)
        .at("state")
        .get<std::string>();
  };
  EXPECT_EQ(state(), "ordered");
  auto link = mine->connect();
  const Json message = SimulatedAgent::receive(*link, "rekey");
  const auto report = [&](const std::string& step, const std::string& kid) {
    link->send(
        Json{{"type", "rekey"}, {"id", message.at("id")}, {"step", step}, {"new_kid", kid}}.dump());
  };
  // Said, but the instance trusts no new key: not confirmed.
  report("switched", mine->auth.kid.text());
  EXPECT_TRUE(wait_until([&] { return state() == "staged"; }));
  mine->rotate();
  report("switched", mine->transport.kid.text());
  EXPECT_TRUE(wait_until([&] { return state() == "confirmed"; })) << state();
}

TEST_F(InstanceTest, AFailureOfACanaryHaltsTheRest) {
  std::vector<std::unique_ptr<SimulatedAgent>> agents;
  std::vector<std::unique_ptr<tls::LinkClient>> links;
  for (int i = 0; i < 4; ++i) {
    agents.push_back(trusted("canary-" + std::to_string(i)));
    ASSERT_EQ(instance_->keyagent("ops", "groups canary-" + std::to_string(i) + " canaries").status,
              0);
    links.push_back(agents.back()->connect());
  }
  const Json order = instance_->json("crypto", "rekey --group canaries --canary 25");
  const auto batch = order.at("batch").get<std::string>();
  const Json message = SimulatedAgent::receive(*links[0], "rekey");
  links[0]->send(
      Json{{"type", "rekey"}, {"id", message.at("id")}, {"step", "failed"}, {"text", "full"}}
          .dump());
  std::map<std::string, int> states;
  EXPECT_TRUE(wait_until([&] {
    states.clear();
    const Json now = instance_->json("audit", "rekeys " + batch);
    for (const auto& each : now.at("rekeys")) ++states[each.at("state").get<std::string>()];
    return states["cancelled"] == 3;
  }));
  EXPECT_EQ(states["failed"], 1);
}

TEST_F(InstanceTest, T8_ARenewedKeyIsTrustedFromItsFirstSessionAndTheOldOneNoMore) {
  const auto mine = trusted("renew-1");
  mine->backend->add("auth-2", Purpose::kAuth, KeyAlgorithm::kEcP256);
  const auto old_chain = mine->chain;
  mine->take(mine->call("POST", "/v1/certificates", {{"csr", mine->csr("auth-2")}}));
  const auto new_chain = mine->chain;
  mine->chain = old_chain;
  mine->call("GET", "/v1/credentials");  // both are good
  mine->chain = new_chain;
  mine->call("GET", "/v1/credentials", nullptr, "auth-2");
  EXPECT_EQ(agent("renew-1").at("auth_kid"), mine->backend->find("auth-2").kid.text());
  mine->chain = old_chain;
  EXPECT_EQ(code_of([&] { mine->call("GET", "/v1/credentials"); }), Code::kDenied);
}

TEST_F(InstanceTest, RolesAreDeniedByDefault) {
  EXPECT_EQ(instance_->keyagent("audit", "token").status, 3);
  EXPECT_EQ(instance_->keyagent("ops", "token").status, 3);
  EXPECT_EQ(instance_->keyagent("ops", "events").status, 3);
  EXPECT_EQ(instance_->keyagent("crypto", "users").status, 3);
  EXPECT_EQ(instance_->keyagent("crypto", "credential remove nothing").status, 3);
  EXPECT_EQ(instance_->keyagent("root", "users").status, 0);
  EXPECT_EQ(instance_->keyagent("nobody", "status").status, 2);  // not logged in
}

TEST_F(InstanceTest, ASessionEndsWithLogoutAndAWrongPasswordLooksLikeAnUnknownName) {
  instance_->add_user("leaver", "auditor");
  ASSERT_EQ(instance_->log_in("leaver").status, 0);
  ASSERT_EQ(instance_->keyagent("leaver", "status").status, 0);
  ASSERT_EQ(instance_->keyagent("leaver", "logout").status, 0);
  EXPECT_EQ(instance_->keyagent("leaver", "status").status, 3);
  const auto login = [&](const std::string& user) {
    return instance_->keyagent("x", "login " + instance_->api_url() + " --user " + user +
                                        " --fingerprint=" + instance_->fingerprint +
                                        " --password-file " +
                                        (instance_->work.path() / "ops.pw").string());
  };
  const auto wrong = login("leaver"), unknown = login("stranger");
  EXPECT_EQ(wrong.status, 3);
  EXPECT_EQ(wrong.output, unknown.output);
}

TEST_F(InstanceTest, T5_AnotherInstancesFingerprintIsNotTalkedTo) {
  const auto result = instance_->keyagent(
      "x", "login " + instance_->api_url() +
               " --user ops --fingerprint=" + to_base64url(Bytes(32, 9)) + " --password-file " +
               (instance_->work.path() / "ops.pw").string());
  EXPECT_EQ(result.status, 6) << result.output;
}

TEST_F(InstanceTest, ABackupIsACopyThatAnotherInstanceCanOpen) {
  trusted("backed-up-1");
  const auto agents = instance_->json("audit", "agents").at("agents").size();
  const auto copy = instance_->work.path() / "copy.db";
  ASSERT_EQ(instance_->keyinstanced("backup " + copy.string()).status, 0);
  EXPECT_NE(instance_->keyinstanced("backup " + copy.string()).status, 0);  // never over a file
  trusted("backed-up-2");                                                   // later than the copy
  const auto config = instance_->work.path() / "copy.yml";
  const auto original = read_text(instance_->config_path());
  const auto at = original.find(instance_->store_url);
  ASSERT_NE(at, original.npos);
  std::ofstream(config) << std::string(original).replace(at, instance_->store_url.size(),
                                                         "sqlite://" + copy.string());
  std::filesystem::permissions(config, std::filesystem::perms(0600));
  const auto checked = instance_->keyinstanced("check", config);
  EXPECT_EQ(checked.status, 0) << checked.output;
  EXPECT_THAT(checked.output, HasSubstr("agents: " + std::to_string(agents) + "\n"));
}

TEST_F(InstanceTest, ABackupNeedsAnAbsolutePath) {
  const auto relative = instance_->keyagent("root", "backup -o asked.db");
  EXPECT_EQ(relative.status, 2) << relative.output;
  EXPECT_THAT(relative.output, HasSubstr("absolute"));
  const auto path = instance_->work.path() / "asked.db";
  EXPECT_EQ(instance_->keyagent("root", "backup -o " + path.string()).status, 0);
  EXPECT_TRUE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace keyagent::test
