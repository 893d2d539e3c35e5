// SPDX-License-Identifier: Apache-2.0
// An instance whose store is restored from a backup (RELIABILITY 132).

#include "agent/envelope/envelope.h"
#include "agent/instance/common/config.h"
#include "agent/instance/common/host_keys.h"
#include "tests/instance/simulated_agent.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class RestoredTest : public WholeSystem {
 protected:
  std::unique_ptr<SimulatedAgent> trusted(const std::string& id) {
    auto agent = std::make_unique<SimulatedAgent>(instance_, id);
    EXPECT_EQ(agent->enrol(token()).at("state"), "trusted");
    return agent;
  }
  void trusted_by(const std::string& token) { SimulatedAgent(instance_, "late").enrol(token); }
  std::string token() { return instance_.json("alice", "token").at("token"); }
  void back_up() {
    const auto copy = instance_.work.path() / "copy.db";
    const auto result = instance_.keyagent("alice", "backup -o " + copy.string());
    ASSERT_EQ(result.status, 0) << result.output;
  }
  void restart() {
    ASSERT_EQ(instance_.end(SIGTERM), 0);
    instance_.start();
  }
  void restore() {
    ASSERT_EQ(instance_.end(SIGTERM), 0);
    const auto store = instance_.work.path() / "store/instance.db";
    for (const auto* more : {"-wal", "-shm"}) std::filesystem::remove(store.string() + more);
    std::filesystem::copy_file(instance_.work.path() / "copy.db", store,
                               std::filesystem::copy_options::overwrite_existing);
    instance_.start();
  }
  Json restored() { return instance_.json("alice", "status").at("restored"); }
  bool becomes_restored() {
    const bool seen = wait_until([&] { return restored().is_object(); }, kLong);
    EXPECT_TRUE(seen) << told();
    return seen;
  }
  // A number that no store of a test reaches.
  static Json epoch(const std::string& instance = "test-instance") {
    return {{"instance", instance}, {"epoch", 1'000'000}, {"at", rfc3339(system_clock().now())}};
  }
  // Signed by the instance's own confirmation key.
  std::string sign(const Json& payload,
                   envelope::Statement statement = envelope::Statement::kEpoch) {
    instance::InstanceConfig config;
    config.agent_socket = instance_.agent.socket();
    return instance::HostKeys(config).sign_confirmation(statement, payload.dump());
  }
  // A link that says this in its hello, once it is welcome.
  static Json greet(SimulatedAgent& agent, Json hello) {
    tls::LinkClient link(agent.library, agent.mutual(), "/v1/link");
    hello["type"] = "hello";
    link.send(hello.dump());
    return SimulatedAgent::receive(link, "welcome");
  }
  std::string transport_of(const std::string& id) {
    return instance_.json("alice", "agents " + id).at("agents").at(0).at("transport_kid");
  }
};

TEST_F(RestoredTest, Fault132_AgentsOfARestoredStoreGetNothingUntilItIsAcceptedAndAreCaughtUp) {
  instance_.extra = "times:\n  heartbeat: 1s\n  task-lease: 30s\n";
  bring_up();
  enrol();
  start_worker();
  put("backup", "s3cr3t");
  gives("backup", "s3cr3t");
  const auto stolen = trusted("stolen");
  const auto done = submit(), goes_on = submit();
  ASSERT_TRUE(wait_until([&] { return runs(done) + runs(goes_on) == 2; }, kLong)) << told();
  const auto spare = token();
  back_up();

  const auto old_kid = transport_kid();
  const auto rekey = instance_.keyagent("alice", "rekey test --wait --timeout 100");
  ASSERT_EQ(rekey.status, 0) << rekey.output << told();
  const auto new_kid = transport_kid();
  ASSERT_NE(new_kid, old_kid);
  ASSERT_EQ(instance_.keyagent("alice", "revoke stolen --reason stolen").status, 0);
  host_.write("go." + done, "");
  task_becomes(done, "done");
  const auto last = events().back().at("seq").get<std::int64_t>();
  restart();
  link_becomes("connected");

  restore();
  ASSERT_TRUE(becomes_restored());
  EXPECT_GE(restored().at("epoch"), last);
  EXPECT_THAT(instance_.keyagent("alice", "status").output, HasSubstr("restored --accept"));
  EXPECT_TRUE(wait_until([&] { return transport_of("test") == new_kid; }, kLong)) << told();
  EXPECT_TRUE(wait_until([&] { return link().at("state") == "connected"; }, kLong)) << told();
  EXPECT_THAT(get("backup"), HasSubstr("restored from a backup"));
  EXPECT_EQ(code_of([&] { stolen->call("GET", "/v1/credentials"); }), Code::kKeyState);
  EXPECT_EQ(code_of([&] { trusted_by(spare); }), Code::kKeyState);
  const auto waits = submit();
  EXPECT_EQ(runs(waits), 0);
  host_.write("go", "");
  EXPECT_TRUE(wait_until([&] { return link().at("outcomes_waiting") == 1; }, kLong)) << told();
  EXPECT_THAT(host_.audit(), HasSubstr("link.instance-restored"));
  EXPECT_EQ(alarms("restored"), 1);
  EXPECT_EQ(alarms("transport.catch-up"), 1);

  ASSERT_EQ(instance_.keyagent("alice", "revoke stolen --reason again").status, 0);
  instance_.add_user("carl", "cryptographic-manager");
  ASSERT_EQ(instance_.log_in("carl").status, 0);
  EXPECT_EQ(instance_.keyagent("carl", "restored --accept").status, 3);
  ASSERT_TRUE(restored().is_object());
  const auto accepted = instance_.keyagent("alice", "restored --accept");
  ASSERT_EQ(accepted.status, 0) << accepted.output;
  EXPECT_TRUE(restored().is_null());
  EXPECT_GT(events().back().at("seq"), last);
  gives("backup", "s3cr3t");
  task_becomes(waits, "done");
  task_becomes(goes_on, "done");
  EXPECT_EQ(runs(waits), 1);
  EXPECT_EQ(runs(goes_on), 1);
  EXPECT_EQ(code_of([&] { trusted_by(spare); }), Code::kDenied) << "it may have been used since";
  // Its end is not known here anymore, but to the agent's journal: it is not done again.
  task_becomes(done, "unknown");
  ASSERT_EQ(instance_.keyagent("alice", "task retry " + done).status, 0);
  task_becomes(done, "done");
  EXPECT_EQ(runs(done), 1);
  restart();
  link_becomes("connected");
  gives("backup", "s3cr3t");
  EXPECT_TRUE(restored().is_null()) << restored();
  EXPECT_EQ(instance_.keyagent("alice", "restored --accept").status, 3) << "there is nothing";
}

TEST_F(RestoredTest, Fault132_AnEpochThatThisInstanceDidNotSignChangesNothing) {
  bring_up();
  const auto mine = trusted("mine");
  const auto rogue = mine->backend->add("rogue", Purpose::kSign, KeyAlgorithm::kEcP256);
  const auto forged = envelope::sign_jws(mine->backend->keys, rogue, SignatureAlgorithm::kEs256,
                                         as_bytes(epoch().dump()));
  const auto own = mine->rotate().at("confirmation").get<std::string>();
  const Json first = greet(*mine, Json::object());
  for (const auto& jws : {forged, sign(epoch("another-instance")), own, std::string("a.b.c"),
                          std::string("no jws"), first.at("epoch").get<std::string>()})
    greet(*mine, {{"epoch", jws}});
  EXPECT_TRUE(restored().is_null()) << restored();
  mine->call("GET", "/v1/credentials");
  greet(*mine, {{"epoch", sign(epoch())}});  // and this one is believed
  EXPECT_TRUE(restored().is_object());
  EXPECT_EQ(code_of([&] { mine->call("GET", "/v1/credentials"); }), Code::kKeyState);
  greet(*mine, {{"epoch", sign(epoch())}});
  EXPECT_EQ(alarms("restored"), 1);
  tls::Client client(mine->library, mine->mutual());
  EXPECT_THAT(client.call("GET", "/v1/crl", {}).body, HasSubstr("BEGIN X509 CRL"));
}

TEST_F(RestoredTest, Fault132_AnOldConfirmationOrAnothersMovesNoTransportKey) {
  bring_up();
  const auto mine = trusted("mine"), other = trusted("other");
  const auto hello = [](const PublicKeyInfo& key, const std::string& confirmation) {
    return Json{{"transport",
                 {{"spki", to_base64url(key.spki)},
                  {"envelope", name_of(key.envelope)},
                  {"confirmation", confirmation}}}};
  };
  const auto first = mine->rotate().at("confirmation").get<std::string>();
  const auto before = mine->transport;
  mine->rotate();
  const auto now = mine->transport.kid.text();
  const auto others = other->rotate().at("confirmation").get<std::string>();
  greet(*mine, hello(before, first));
  greet(*mine, hello(other->transport, others));
  const Json later{{"agent", "mine"},
                   {"old_kid", now},
                   {"new_kid", before.kid.text()},
                   {"at", rfc3339(system_clock().now() + std::chrono::seconds(1))}};
  const auto rogue = mine->backend->add("rogue", Purpose::kSign, KeyAlgorithm::kEcP256);
  greet(*mine,
        hello(before, envelope::sign_jws(mine->backend->keys, rogue, SignatureAlgorithm::kEs256,
                                         as_bytes(later.dump()))));
  EXPECT_EQ(transport_of("mine"), now);
  EXPECT_EQ(alarms("transport.catch-up"), 0);
  // Signed by the instance itself, after the row's last change: believed.
  const auto signed_later = sign(later, envelope::Statement::kRotation);
  EXPECT_EQ(greet(*mine, hello(before, signed_later)).at("transport_kid"), before.kid.text());
  EXPECT_EQ(transport_of("mine"), before.kid.text());
  EXPECT_EQ(alarms("transport.catch-up"), 1);
}

}  // namespace
}  // namespace keyagent::test
