// SPDX-License-Identifier: Apache-2.0
// The mutual-TLS document with `openssl` alone as the authority: T2, T3, T8.

#include <gmock/gmock.h>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class ExternalCa : public testing::Test {
 protected:
  ExternalCa() {
    folder_ = instance_.work.path().string();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out "
        "root.pem -days 3650 -subj /O=Example/CN=root");
    make_authority_files();
    instance_.extra += "ca:\n  outside: " + file("ca.pem") + "\n  crl: " + file("crl.pem") +
                       "\n  certificate: " + file("server.pem") + "\n";
    instance_.write_config();
  }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }
  void run(const std::string& command) const {
    const auto result = try_command("cd '" + folder_ + "' && " + command + " 2>&1");
    if (result.status != 0) throw std::runtime_error(command + ": " + result.output);
  }
  void openssl(const std::string& words) const { run("openssl " + words); }
  void make_authority_files() const {
    run("cp root.pem ca.pem && chmod 0644 ca.pem && : > index.txt && echo 01 > crlnumber");
    std::ofstream(file("ca.cnf")) << "[ca]\ndefault_ca = here\n[here]\ndatabase = " +
                                         file("index.txt") + "\ncrlnumber = " + file("crlnumber") +
                                         "\ndefault_md = sha256\ndefault_crl_days = 30\n";
    openssl("ca -config ca.cnf -gencrl -keyfile root.key -cert root.pem -out crl.pem");
  }
  // What a CA's administrator does with a request.
  void certify(const std::string& name, const std::string& use, const std::string& names) const {
    std::ofstream(file(name + ".ext")) << "basicConstraints = CA:FALSE\nextendedKeyUsage = " << use
                                       << "\nsubjectAltName = " << names << "\n";
    openssl("x509 -req -in " + name +
            ".csr -CA root.pem -CAkey root.key -CAcreateserial -extfile " + name + ".ext -out " +
            name + ".pem -days 60");
  }
  void start() {
    const auto asked = instance_.keyinstanced("request -o " + file("server.csr"));
    if (asked.status != 0) throw std::runtime_error(asked.output);
    certify("server", "serverAuth", "IP:127.0.0.1,DNS:localhost");
    instance_.start();
    instance_.add_user("alice", "cryptographic-manager");
    const auto in = instance_.log_in("alice");
    if (in.status != 0) throw std::runtime_error(in.output);
  }
  void make_csr(const std::string& agent) const {
    const auto made =
        instance_.keyagent("alice", "certificate request " + agent + " -o " + agent + ".csr");
    if (made.status != 0) throw std::runtime_error(made.output);
  }
  CommandResult import(const std::string& agent, const std::string& name) const {
    return instance_.keyagent("alice", "certificate import " + agent + " " + name);
  }
  std::string token() const { return instance_.json("alice", "token").at("token"); }

  InstanceProcess instance_;
  std::string folder_;
};

TEST_F(ExternalCa, T3_AgentIsCertifiedByOpensslAlone) {
  start();
  SimulatedAgent web1(instance_, "web1");
  EXPECT_EQ(web1.enrol(token()).at("state"), "pending");
  EXPECT_EQ(web1.poll().at("state"), "pending");
  make_csr("web1");
  openssl("req -in web1.csr -noout -verify");
  certify("web1", "clientAuth", "DNS:web1");
  // Its issuer first: the order does not matter.
  run("cat root.pem web1.pem > both.pem");
  const auto taken = import("web1", "both.pem");
  ASSERT_EQ(taken.status, 0) << taken.output;
  EXPECT_EQ(web1.poll().at("state"), "trusted");
  web1.connect();
  EXPECT_EQ(web1.welcome.at("agent"), "web1");
  EXPECT_THAT(import("web1", "web1.pem").output, HasSubstr("no request of agent web1"));
  EXPECT_TRUE(instance_.json("alice", "certificate list").at("requests").empty());
}

TEST_F(ExternalCa, T3_CertificateThatIsNotTheAgentsIsRefusedBeforeAnythingChanges) {
  start();
  SimulatedAgent web1(instance_, "web1"), web2(instance_, "web2");
  web1.enrol(token());
  web2.enrol(token());
  make_csr("web1");
  make_csr("web2");
  certify("web2", "clientAuth", "DNS:web2");
  struct Wrong {
    std::string use, names, said;
    int status;
  };
  const Wrong wrongs[] = {{"clientAuth", "DNS:web2", "web2", 2},
                          {"clientAuth", "DNS:web1,DNS:web2", "must name only this agent", 6},
                          {"serverAuth", "DNS:web1", "clientAuth", 6}};
  EXPECT_EQ(import("web1", "web2.pem").status, 6);
  for (const auto& wrong : wrongs) {
    certify("web1", wrong.use, wrong.names);
    const auto refused = import("web1", "web1.pem");
    EXPECT_EQ(refused.status, wrong.status) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr(wrong.said));
  }
  openssl(
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out "
      "other.pem -days 30 -subj /CN=other");
  openssl(
      "x509 -req -in web1.csr -CA other.pem -CAkey other.key -CAcreateserial -extfile web1.ext "
      "-out web1.pem -days 30");
  EXPECT_EQ(import("web1", "web1.pem").status, 6);
  EXPECT_EQ(web1.poll().at("state"), "pending");
}

TEST_F(ExternalCa, T8_RenewalWithTheNextKeyWaitsForTheCaAndTheOldSessionContinues) {
  start();
  SimulatedAgent web1(instance_, "web1");
  web1.enrol(token());
  make_csr("web1");
  certify("web1", "clientAuth", "DNS:web1");
  ASSERT_EQ(import("web1", "web1.pem").status, 0);
  web1.poll();
  const auto link = web1.connect();
  web1.backend->add("auth-2", Purpose::kAuth, KeyAlgorithm::kEcP256);
  const auto renew = [&] {
    return web1.call("POST", "/v1/certificates", {{"csr", web1.csr("auth-2")}});
  };
  EXPECT_EQ(code_of(renew), Code::kBusy);
  make_csr("web1");
  certify("web1", "clientAuth", "DNS:web1");
  ASSERT_EQ(import("web1", "web1.pem").status, 0);
  const Json answer = renew();
  web1.take(answer);
  EXPECT_NO_THROW(web1.call("GET", "/v1/credentials", nullptr, "auth-2"));
}

TEST_F(ExternalCa, T3_CheckReportsMissingAndInvalidFiles) {
  instance_.keyinstanced("request -o " + file("server.csr"));
  const auto missing = instance_.keyinstanced("check");
  EXPECT_EQ(missing.status, 2);
  EXPECT_THAT(missing.output, HasSubstr("keyinstanced --config FILE request"));
  certify("server", "clientAuth", "IP:127.0.0.1");
  EXPECT_THAT(instance_.keyinstanced("check").output, HasSubstr("serverAuth"));
  certify("server", "serverAuth", "DNS:elsewhere.example.org");
  EXPECT_THAT(instance_.keyinstanced("check").output, HasSubstr("127.0.0.1"));
  certify("server", "serverAuth", "IP:127.0.0.1");
  const auto good = instance_.keyinstanced("check");
  EXPECT_EQ(good.status, 0) << good.output;
  EXPECT_THAT(good.output, HasSubstr("external CA"));
  run("chmod 0666 ca.pem");
  EXPECT_THAT(instance_.keyinstanced("check").output, HasSubstr("chmod"));
}

TEST_F(ExternalCa, T3_AnInstanceThatCertifiesItselfImportsNothing) {
  instance_.extra = "times:\n  heartbeat: 1s\n";
  instance_.start();
  instance_.add_user("alice", "admin");
  ASSERT_EQ(instance_.log_in("alice").status, 0);
  const auto refused = instance_.keyagent("alice", "certificate list");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.output, HasSubstr("has a built-in CA"));
}

}  // namespace
}  // namespace keyagent::test
