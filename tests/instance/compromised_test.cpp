// SPDX-License-Identifier: Apache-2.0
// A compromised process of the instance's user: what its agent gives it (RELIABILITY 144). And a
// deployment from before there were purposes for keys that sign statements.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/envelope/statement.h"
#include "agent/pki/issuer.h"
#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class CompromisedInstance : public testing::Test {
 protected:
  void start() {
    instance_.start();
    instance_.add_user("crypto", "cryptographic-manager");
    ASSERT_EQ(instance_.log_in("crypto").status, 0);
  }
  wire::Response ask(wire::Request request) {
    auto client = instance_.agent.client();
    return client.call(std::move(request));
  }
  // The request is refused, and adds one line to the audit log.
  void refused(const char* what, const wire::Request& request) {
    const auto before = denials();
    EXPECT_EQ(code_of([&] { ask(request); }), Code::kDenied) << what;
    EXPECT_EQ(denials(), before + 1) << what;
  }
  std::ptrdiff_t denials() {
    wire::Request tail;
    tail.mutable_audit_tail()->set_count(1000);
    const auto lines = ask(tail).audit_tail();
    return std::count_if(lines.records().begin(), lines.records().end(), [](const auto& line) {
      return line.find("refused: sign") != std::string::npos &&
             line.find("DENIED") != std::string::npos;
    });
  }
  wire::Key key(const std::string& name) {
    wire::Request request;
    request.mutable_key_show()->set_key(name);
    return ask(request).key_show().key();
  }
  static wire::Request statement(const std::string& key) {
    wire::Request request;
    request.mutable_sign_statement()->set_key(key);
    return request;
  }
  static wire::Request text(const std::string& key, std::string_view type, const Json& payload) {
    auto request = statement(key);
    request.mutable_sign_statement()->mutable_text()->set_type(std::string(type));
    request.mutable_sign_statement()->mutable_text()->set_payload(payload.dump());
    return request;
  }
  static std::int64_t in(std::chrono::hours time) {
    const auto at = system_clock().now() + time;
    return std::chrono::duration_cast<std::chrono::seconds>(at.time_since_epoch()).count();
  }
  wire::Request certificate(const std::string& authority, const std::string& name) {
    auto request = statement("instance-ca");
    auto& wanted = *request.mutable_sign_statement()->mutable_certificate();
    wanted.set_authority(authority);
    wanted.set_spki(mine_.spki.data(), mine_.spki.size());
    wanted.set_use("client");
    wanted.add_names(name);
    wanted.set_not_before(in(std::chrono::hours(0)));
    wanted.set_not_after(in(std::chrono::hours(24)));
    return request;
  }
  // An agent is enrolled and changes its transport key: all three keys are used.
  void works(const std::string& agent) {
    SimulatedAgent web(instance_, agent);
    ASSERT_EQ(web.enrol(instance_.json("crypto", "token").at("token")).at("state"), "trusted");
    authority_ = std::string(as_text(web.chain.back()));
    EXPECT_FALSE(web.rotate().at("confirmation").get<std::string>().empty());
    web.connect();
  }
  std::string doctor() {
    wire::Request request;
    request.mutable_doctor();
    std::string cures;
    const auto response = ask(request);
    for (const auto& each : response.doctor().findings()) cures += each.cure() + "\n";
    return cures;
  }

  InstanceProcess instance_;
  SoftwareKeys keys_;
  const PublicKeyInfo mine_ = keys_.add("mine", Purpose::kAuth, KeyAlgorithm::kEcP256),
                      rsa_ = keys_.add("rsa", Purpose::kExchange, KeyAlgorithm::kRsa2048);
  std::string authority_;
};

TEST_F(CompromisedInstance, Fault144_ItsAgentSignsNothingOfItsMaking) {
  instance_.agent.extra += "issuing:\n  clients: [\"web*\"]\n  max-certificate: 90d\n";
  instance_.agent.stop();
  instance_.agent.start();
  start();
  const auto own = instance_.json("crypto", "exchange identity").at("identity").get<std::string>();
  works("web1");
  for (const char* name :
       {"instance-ca", "instance-confirm", "exchange-identity", "instance-tls"}) {
    wire::Request sign;
    sign.mutable_sign()->set_key(name);
    sign.mutable_sign()->set_input(std::string(32, 'x'));
    refused(name, sign);
  }
  // An offer for its own RSA key.
  const Json offer{{"format", 1},
                   {"exchange_kid", rsa_.kid.text()},
                   {"oaep", {"sha1"}},
                   {"issued", rfc3339(system_clock().now())}};
  for (const char* type : {"keyagent-exchange-key+jws", "keyagent-exchange-message+jws", "", "JWT"})
    refused("an offer of a software key", text("exchange-identity", type, offer));
  wire::Request offered;
  offered.mutable_exchange_offer()->set_exchange_key(rsa_.kid.text());
  offered.mutable_exchange_offer()->set_identity("exchange-identity");
  EXPECT_NE(code_of([&] { ask(offered); }), Code::kOk);

  auto other = certificate(authority_, "db1");
  refused("another name", other);
  auto ca = certificate(authority_, "web2");
  ca.mutable_sign_statement()->mutable_certificate()->set_use("ca");
  refused("an authority", ca);
  auto server = certificate(authority_, "keys.example.org");
  server.mutable_sign_statement()->mutable_certificate()->set_use("server");
  refused("a server with its own key", server);
  auto years = certificate(authority_, "web2");
  years.mutable_sign_statement()->mutable_certificate()->set_not_after(
      in(std::chrono::hours(24 * 365)));
  refused("too long a life", years);
  auto list = statement("instance-confirm");
  list.mutable_sign_statement()->mutable_revocation_list()->set_authority(authority_);
  refused("a list by another key", list);
  const auto epoch = envelope::type_of(envelope::Statement::kEpoch);
  refused("a confirmation in the caller's form",
          text("instance-confirm", epoch, {{"agent", "web1"}}));
  refused("a confirmation of another key",
          text("exchange-identity", epoch,
               {{"instance", "x"}, {"epoch", 1}, {"at", rfc3339(system_clock().now())}}));
  const auto now = system_clock().now();
  Json message{{"format", 1},
               {"kind", "keyagent-exchange-message"},
               {"type", "request"},
               {"from", std::string(43, 'B')},
               {"to", std::string(43, 'A')},
               {"nonce", std::string(22, 'n')},
               {"issued", rfc3339(now)},
               {"expires", rfc3339(now + std::chrono::minutes(1))},
               {"epoch", ""},
               {"known", ""},
               {"body", Json::object()}};
  const auto type = envelope::type_of(envelope::Statement::kExchangeMessage);
  refused("a message in another's name", text("exchange-identity", type, message));
  // The control: what an honest instance asks is done, now as before.
  message["from"] = own;
  EXPECT_FALSE(ask(text("exchange-identity", type, message)).sign_statement().jws().empty());
  EXPECT_FALSE(ask(certificate(authority_, "web2")).sign_statement().der().empty());
  works("web3");
}

// Its keys have names of the operator's, and the purpose of then.
TEST_F(CompromisedInstance, Fault144_KeysOfBeforeServeUntilTheyAreRetypedAndThenTheirPurposeAlone) {
  const auto create = [&](const std::string& name, const std::string& purpose) {
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(purpose);
    ask(request);
  };
  create("our-ca", "sign");
  create("our-confirm", "sign");
  instance_.agent_extra = "  ca-key: our-ca\n  confirmation-key: our-confirm\n";
  start();
  EXPECT_THAT(read_text(instance_.log()), HasSubstr("keyagent key retype our-ca --purpose ca"));
  works("web1");
  const auto fingerprint = instance_.fingerprint;
  EXPECT_THAT(doctor(), HasSubstr("keyagent key retype our-ca --purpose ca\n"));
  EXPECT_THAT(doctor(), HasSubstr("keyagent key retype our-confirm --purpose confirm\n"));
  for (const auto& [name, purpose] : {std::pair{"our-ca", "ca"}, {"our-confirm", "confirm"}}) {
    const auto retyped =
        try_command(KEYAGENT " --socket " + instance_.agent.socket().string() + " key retype " +
                    std::string(name) + " --purpose " + purpose + " 2>&1");
    EXPECT_EQ(retyped.status, 0) << retyped.output;
    EXPECT_THAT(retyped.output, HasSubstr(std::string("is for ") + purpose));
    wire::Request sign;
    sign.mutable_sign()->set_key(name);
    sign.mutable_sign()->set_input(std::string(32, 'x'));
    refused(name, sign);
  }
  EXPECT_THAT(doctor(), testing::Not(HasSubstr("retype")));
  works("web2");
  instance_.stop();
  instance_.start();
  EXPECT_EQ(instance_.fingerprint, fingerprint);
  EXPECT_THAT(read_text(instance_.log()), testing::Not(HasSubstr("retype")));
  works("web3");
}

}  // namespace
}  // namespace keyagent::test
