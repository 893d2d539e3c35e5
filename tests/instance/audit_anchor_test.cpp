// SPDX-License-Identifier: Apache-2.0
// An audit log that is rolled back, truncated or rewritten together with the token's copy of its
// newest checkpoint: only the instance can detect it (RELIABILITY 138, 157).

#include "agent/audit/record.h"
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

TEST_P(AuditAnchorTest, Fault138_Fault157_TheInstanceKnowsTheNewestCheckpointOfALogThatWasChanged) {
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
  ASSERT_EQ(host_.keyagent("reload").status, 0);
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
  ASSERT_EQ(instance_.keyagent("alice", "checkpoint test --accept --reason test").status, 0);
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

}  // namespace keyagent::test
