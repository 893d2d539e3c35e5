// SPDX-License-Identifier: Apache-2.0
// An audit log that is rolled back, truncated or rewritten together with the token's copy of its
// newest checkpoint: only the instance can detect it (RELIABILITY 138, 157).

#include "agent/audit/record.h"
#include "agent/store/engine/database.h"
#include "tests/audit/audit_folder.h"
#include "tests/e2e/fixes.h"
#include "tests/instance/simulated_agent.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {

using testing::HasSubstr;

enum class LogChange { kPutBack, kCut, kRewritten };

class AuditAnchorTest : public WholeSystem, public testing::WithParamInterface<LogChange> {
 protected:
  void SetUp() override {
    instance_.extra = "times:\n  heartbeat: 1s\n";
    bring_up();
    enrol();
    host_.json("key create data --purpose sign --algorithm ec-p256");
  }
  std::filesystem::path log() const { return host_.state() / "audit" / audit::kLogName; }

  Json kept() { return instance_.json("alice", "checkpoint test").at("checkpoint"); }
  // A new checkpoint, and the instance has it.
  void anchor() {
    ASSERT_EQ(host_.keyagent("audit verify --save-checkpoint newest.json").status, 0);
    const Json newest = Json::parse(host_.read("newest.json"));
    ASSERT_TRUE(wait_until(
        [&] {
          const auto result = instance_.keyagent("alice", "--json checkpoint test");
          return result.status == 0 &&
                 Json::parse(result.output).at("checkpoint").at("size") >= newest.at("size");
        },
        kLong))
        << told();
  }
  // REQUIRES: the agent has ended.
  void copy(const std::string& from, const std::string& to) const {
    run_command("rm -rf '" + to + "' && cp -a '" + from + "' '" + to + "'");
  }
  void save() const {
    copy((host_.folder() / "tokens").string(), (host_.folder() / "tokens.old").string());
    copy((host_.state() / "audit").string(), (host_.folder() / "audit.old").string());
  }
  // The token and the log as they were, or a log that only begins as it did.
  void put_back() const {
    const auto whole = read_text(log());
    copy((host_.folder() / "tokens.old").string(), (host_.folder() / "tokens").string());
    copy((host_.folder() / "audit.old").string(), (host_.state() / "audit").string());
    const auto old = read_text(log());
    ASSERT_EQ(whole.substr(0, old.size()), old);
    if (GetParam() == LogChange::kPutBack) return;
    if (GetParam() == LogChange::kCut) {
      // Between the two checkpoints: the newest that the folder knows is still there.
      const auto end = whole.find('\n', old.size());
      std::ofstream(log(), std::ios::trunc) << whole.substr(0, end + 1);
      return;
    }
    const auto last = audit::parse_line(old.substr(old.rfind('\n', old.size() - 2) + 1));
    std::string prev = last.value().hash;
    std::ofstream out(log(), std::ios::app);
    for (std::uint64_t seq = last->seq + 1; seq < last->seq + 300; ++seq) {
      audit::Event event;
      event.what = "sign";
      const auto line = audit::format_event(seq, WallTime{}, prev, event);
      prev = line.substr(line.rfind(",\"hash\":\"") + 9, 64);
      out << line << "\n";
    }
  }
  CommandResult verify() const { return host_.keyagent("audit verify"); }
  void use() const {
    std::ofstream(host_.file("text")) << "text";
    for (int i = 0; i < 5; ++i) ASSERT_EQ(host_.keyagent("sign text --key data").status, 0);
  }
};

TEST_P(AuditAnchorTest,
       Fault138_Fault157_Fix_AuditHistoryInstance_TheInstanceKnowsTheNewestCheckpoint) {
  anchor();
  EXPECT_THAT(verify().output, HasSubstr("the instance keeps"));
  ASSERT_EQ(host_.stop(), 0);
  save();
  host_.start();
  use();
  anchor();
  ASSERT_EQ(host_.stop(), 0);
  const Json before = kept();
  put_back();
  host_.start();
  ASSERT_TRUE(wait_until([this] { return alarms("audit.history") == 1; }, kLong)) << told();
  const auto found = verify();
  EXPECT_EQ(found.status, 6) << found.output;
  EXPECT_THAT(found.output, HasSubstr("the instance keeps"));
  const auto doctor = host_.keyagent("doctor");
  EXPECT_EQ(doctor.status, 6) << doctor.output;
  EXPECT_THAT(doctor.output, HasSubstr("keyagent instance checkpoint AGENT --accept"));
  // Neither a restart nor the local administrator makes it forget.
  const Fixes fixes(host_);
  const auto accept_here = fixes.command("audit-history-instance", 0);
  const auto accept_there = fixes.command("audit-history-instance", 1);
  fixes.run(accept_here);
  ASSERT_EQ(host_.stop(), 0);
  host_.start();
  ASSERT_TRUE(wait_until([this] { return alarms("audit.history") == 2; }, kLong)) << told();
  EXPECT_EQ(kept(), before);
  // Without an agent, with what the instance gives.
  ASSERT_EQ(instance_.keyagent("alice", "checkpoint test -o kept.json").status, 0);
  ASSERT_EQ(host_.keyagent("key public audit -o audit.pem").status, 0);
  const auto offline = host_.keyagent(
      "audit verify --folder '" + (host_.state() / "audit").string() + "' --checkpoint '" +
      (instance_.work.path() / "kept.json").string() + "' --public audit.pem");
  EXPECT_EQ(offline.status, 6) << offline.output;
  EXPECT_THAT(offline.output, HasSubstr("the external checkpoint"));
  // The fix that doctor prints.
  fixes.run(accept_there,
            {{"keyagent instance",
              "keyagent instance --profile " + (instance_.work.path() / "alice.json").string()},
             {"AGENT", "test"}});
  EXPECT_TRUE(wait_until([this] { return verify().status == 0; }, kLong)) << verify().output;
  anchor();
  EXPECT_EQ(host_.keyagent("doctor").status, 0) << host_.keyagent("doctor").output;
}

INSTANTIATE_TEST_SUITE_P(Link, AuditAnchorTest,
                         testing::Values(LogChange::kPutBack, LogChange::kCut,
                                         LogChange::kRewritten));

class CheckpointTest : public WholeSystem {
 protected:
  static Json checkpoint(std::int64_t size, char hash) {
    return {{"size", size},
            {"hash", std::string(64, hash)},
            {"time", "2026-01-01T00:00:00Z"},
            {"kid", "a-kid"},
            {"alg", "ES256"},
            {"signature", "c2lnbg"}};
  }
  // What the instance keeps after this heartbeat; nullptr: it ended the link.
  static Json beat(tls::LinkClient& link, const Json& audit) {
    link.send(
        Json{{"type", "heartbeat"}, {"n", 1}, {"keys", Json::array()}, {"audit", audit}}.dump());
    try {
      return SimulatedAgent::receive(link, "heartbeat").at("audit");
    } catch (const std::exception&) {
      return "ended";
    }
  }
};

TEST_F(CheckpointTest, Fault138_AnOlderOrAnotherCheckpointIsAnAlarmAndIsNotTaken) {
  instance_.start();
  instance_.add_user("alice", "admin");
  ASSERT_EQ(instance_.log_in("alice").status, 0);
  SimulatedAgent agent(instance_, "web1");
  agent.enrol(instance_.json("alice", "token").at("token"));
  const auto link = agent.connect();
  EXPECT_TRUE(agent.welcome.at("audit").is_null());
  EXPECT_EQ(beat(*link, checkpoint(100, 'a')), checkpoint(100, 'a'));
  EXPECT_EQ(beat(*link, checkpoint(100, 'a')), checkpoint(100, 'a'));
  EXPECT_EQ(beat(*link, checkpoint(200, 'b')), checkpoint(200, 'b'));
  EXPECT_EQ(beat(*link, Json()), checkpoint(200, 'b'));
  EXPECT_EQ(alarms("agent.audit"), 0);
  EXPECT_EQ(beat(*link, checkpoint(150, 'c')), checkpoint(200, 'b'));
  EXPECT_EQ(alarms("agent.audit"), 1);
  EXPECT_EQ(beat(*link, checkpoint(200, 'c')), checkpoint(200, 'b'));
  EXPECT_EQ(alarms("agent.audit"), 2);
  // Another session, and a restart of the instance, change nothing.
  ASSERT_EQ(instance_.end(SIGTERM), 0);
  instance_.start();
  const auto again = agent.connect();
  EXPECT_EQ(agent.welcome.at("audit"), checkpoint(200, 'b'));
  EXPECT_EQ(beat(*again, "no checkpoint"), "ended");
  EXPECT_EQ(instance_.json("alice", "agents web1").at("agents").at(0).at("audit").at("records"),
            200);
  // Who may read may not accept.
  instance_.add_user("bob", "auditor");
  ASSERT_EQ(instance_.log_in("bob").status, 0);
  EXPECT_EQ(instance_.keyagent("bob", "checkpoint web1 --accept").status, 3);
  EXPECT_EQ(instance_.keyagent("bob", "checkpoint web1").status, 0);
}

// The host's owner does not control it anymore: the intruder has the agent's keys, and the key that
// signs checkpoints.
TEST_F(CheckpointTest, Fault138_TheCheckpointOfAnEarlierDayShowsALogWhoseNewestOneIsInvented) {
  instance_.start();
  instance_.add_user("alice", "admin");
  instance_.add_user("bob", "auditor");
  for (const auto* user : {"alice", "bob"}) ASSERT_EQ(instance_.log_in(user).status, 0);
  EXPECT_NE(instance_.keyagent("bob", "checkpoint web1 --list").status, 0) << "no such agent";
  SimulatedAgent agent(instance_, "web1");
  agent.enrol(instance_.json("alice", "token").at("token"));
  EXPECT_EQ(instance_.keyagent("bob", "checkpoint web1 --list").output, "none\n");
  const auto link = agent.connect();
  const audit::AuditFolder host;
  audit::Auditor key;
  const auto history = [&](const std::string& what, int records) {
    audit::AuditLog log(host.options());
    for (int i = 0; i < records; ++i) log.record_now(audit::event(what));
    log.set_signer(key.signer());
    return Json::parse(log.checkpoint().value());
  };
  const Json genuine = history("open", 5);
  EXPECT_EQ(beat(*link, genuine), genuine);
  // Time passes.
  store::Database database(store::Options{instance_.store_url});
  ASSERT_EQ(database.write([](store::Sql& sql) {
    return sql.run("UPDATE audit_checkpoint_days SET day = '2026-01-02', noted = 1767312000000");
  }),
            1);
  std::filesystem::remove_all(host.folder());
  const Json invented = history("sign", 50);
  EXPECT_EQ(beat(*link, invented), invented);
  EXPECT_EQ(alarms("agent.audit"), 0) << "a newer one is taken";

  std::ofstream(instance_.work.path() / "audit.pem")
      << "-----BEGIN PUBLIC KEY-----\n"
      << SimulatedAgent::base64(key.public_keys().begin()->second) << "-----END PUBLIC KEY-----\n";
  const auto verify = [&](const std::string& which) {
    const auto kept = (instance_.work.path() / "kept.json").string();
    std::filesystem::remove(kept);
    EXPECT_EQ(instance_.keyagent("bob", "checkpoint web1 -o kept.json" + which).status, 0);
    return host_.keyagent("audit verify --folder '" + host.folder().string() + "' --checkpoint '" +
                          kept + "' --public '" + (instance_.work.path() / "audit.pem").string() +
                          "'");
  };
  const auto by_newest = verify("");
  EXPECT_EQ(by_newest.status, 0) << by_newest.output;
  const auto by_day = verify(" --day 2026-01-02");
  EXPECT_EQ(by_day.status, 6) << by_day.output;
  EXPECT_THAT(by_day.output, HasSubstr("the external checkpoint"));
  // An operator who is made to accept the log does not remove it.
  ASSERT_EQ(instance_.keyagent("alice", "checkpoint web1 --accept").status, 0);
  EXPECT_EQ(verify(" --day 2026-01-02").status, 6);
  const Json days = instance_.json("bob", "checkpoint web1 --list").at("days");
  ASSERT_EQ(days.size(), 2u);
  EXPECT_EQ(days[1].at("day"), "2026-01-02");
  EXPECT_EQ(days[1].at("checkpoint"), genuine);
  EXPECT_EQ(days[0].at("checkpoint"), invented);
  EXPECT_THAT(instance_.keyagent("bob", "checkpoint web1 --list").output,
              HasSubstr("2026-01-02  " + genuine.at("size").dump() + " records, hash "));
  for (const char* bad : {"''", "today", "2026-1-03", "2026-01-033"}) {
    const auto refused = instance_.keyagent("bob", std::string("checkpoint web1 --day ") + bad);
    EXPECT_EQ(refused.status, 2) << bad;
    EXPECT_THAT(refused.output, HasSubstr("must be a day such as")) << bad;
  }
  const auto none = instance_.keyagent("bob", "checkpoint web1 --day 2026-01-03");
  EXPECT_EQ(none.status, 2) << none.output;
  EXPECT_THAT(none.output, HasSubstr("keyagent instance checkpoint web1 --list shows the days"));
}

}  // namespace keyagent::test
