// SPDX-License-Identifier: Apache-2.0
// An agent's life with a real instance, a real agent and its worker: pending, suspended, revoked,
// killed, moved, and after the loss of its token.

#include "agent/base/encoding.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

bool lives(const std::string& pid) {
  const std::string stat = read_text("/proc/" + pid + "/stat");
  const auto name_end = stat.rfind(')');
  return name_end != stat.npos && stat.at(name_end + 2) != 'Z';
}

class LifecycleTest : public WholeSystem {
 protected:
  LifecycleTest() { instance_.extra = "times:\n  heartbeat: 1s\n  task-lease: 5s\n"; }

  // How often the token was asked to open something, but for the proofs of possession, which an
  // agent that waits for its approval repeats.
  int decryptions() const {
    const int proofs =
        Host::count(host_.audit(), R"("what":"prove","who":"internal:link","key":"credentials")");
    return Host::count(host_.calls(), "C_Decrypt\n") + Host::count(host_.calls(), "C_DeriveKey\n") -
           proofs;
  }
  bool becomes(const std::string& what, const std::function<bool()>& condition) {
    const bool reached = wait_until(condition, kLong);
    EXPECT_TRUE(reached) << what << told();
    return reached;
  }
  // A handler "hold" of a host, which works in the folder "held": each run is a line of `runs`; it
  // ends when `go` is there. One that begins while an earlier attempt of its task still runs is a
  // line of `overlaps`. As another user than the one that asks for credentials (start_worker()).
  static void start_holding(const Host& host, WorkerProcess& worker) {
    std::filesystem::create_directory(host.file("held"));
    std::filesystem::permissions(host.file("held"), std::filesystem::perms(0777));
    worker.handler("hold",
                   "cd held\nid=$KEYAGENT_TASK_ID\n"
                   "[ -e pid.$id ] && kill -0 $(cat pid.$id) 2>/dev/null && echo $id >>overlaps\n"
                   "echo $$ >pid.new.$id; mv -f pid.new.$id pid.$id\n"
                   "echo $id >>runs\n"
                   "while ! [ -e go ]; do sleep 0.05; done\necho held\n",
                   std::string(", parallel: 3") + (::geteuid() == 0 ? ", user: nobody" : ""));
    worker.start();
  }
  static void let_go(const Host& host) { host.write("held/go", ""); }
  static int held(const Host& host, const std::string& id) {
    return Host::count(host.read("held/runs"), id);
  }
  int held(const std::string& id) const { return held(host_, id); }
  std::string hold(const std::string& more = " --agent test") {
    return instance_.json("alice", "task submit hold" + more).at("id");
  }
  bool begins(const std::string& id, int times = 1) {
    return becomes("task " + id + " begins", [&] { return held(id) == times; });
  }
  std::string pid_of(const std::string& id) const {
    const std::string text = host_.read("held/pid." + id);
    return text.substr(0, text.find('\n'));
  }
  std::int64_t attempt(const std::string& id) {
    return instance_.json("alice", "task show " + id).at("attempt");
  }
};

TEST_F(LifecycleTest, R3_WhoIsNotApprovedGetsNothingAndItsTokenDecryptsNothing) {
  host_.shimmed = true;
  bring_up();
  std::ofstream(instance_.work.path() / "value.json") << R"({"token":"s3cr3t"})";
  const auto kept = instance_.keyagent(
      "alice", "credential put backup --type api-token --from value.json --group pool");
  ASSERT_EQ(kept.status, 0) << kept.output;
  const auto asked =
      host_.keyagent("enroll " + instance_.api_url() + " --instance=" + instance_.fingerprint);
  ASSERT_EQ(asked.status, 0) << asked.output;
  ASSERT_EQ(link().at("state"), "pending");
  ASSERT_TRUE(becomes("it is pending", [&] { return agent().at("state") == "pending"; }));
  const int before = decryptions();
  EXPECT_EQ(host_.keyagent("credential get backup").status, 3);
  // A person who approves another fingerprint approves nothing.
  EXPECT_NE(instance_.keyagent("alice", "approve test --fingerprint=" + to_base64url(Bytes(32, 7)))
                .status,
            0);
  EXPECT_EQ(agent().at("state"), "pending");
  EXPECT_EQ(host_.keyagent("credential get backup").status, 3);
  EXPECT_TRUE(wait_until([&] { return decryptions() <= before; })) << host_.audit();
  ASSERT_EQ(instance_.keyagent("alice", "reject test --reason unknown").status, 0);
  ASSERT_TRUE(becomes("it is rejected", [&] { return link().at("state") != "pending"; }));
  EXPECT_NE(host_.keyagent("credential get backup").status, 0);
  EXPECT_TRUE(wait_until([&] { return decryptions() <= before; })) << host_.audit();
}

TEST_F(LifecycleTest, R3_R11_ASuspendedAgentGetsNoCredentialAndNoTaskUntilItIsResumed) {
  host_.shimmed = true;
  bring_up();
  enrol();
  start_holding(host_, worker_);
  put("backup", "s3cr3t");
  ASSERT_TRUE(gives("backup", "s3cr3t"));
  const auto kid = transport_kid();
  const auto running = hold();
  ASSERT_TRUE(begins(running));
  ASSERT_EQ(instance_.keyagent("alice", "suspend test --reason audit").status, 0);
  ASSERT_TRUE(link_becomes("refused_by_peer"));
  const int before = decryptions();
  const auto refused = host_.keyagent("credential get backup");
  EXPECT_EQ(refused.status, 3) << refused.output;
  EXPECT_THAT(refused.output, AllOf(HasSubstr("suspended"), Not(HasSubstr("s3cr3t"))));
  EXPECT_TRUE(wait_until([&] { return decryptions() <= before; })) << "a copy was opened";
  const auto waits = hold();
  // A suspended agent cannot renew its lease: its handler ends before another agent could start.
  EXPECT_TRUE(becomes("the handler ends", [&] { return !lives(pid_of(running)); }));
  EXPECT_TRUE(task_becomes(running, "unknown"));
  EXPECT_EQ(task_state(waits), "queued");
  EXPECT_EQ(held(waits), 0);

  let_go(host_);
  ASSERT_EQ(instance_.keyagent("alice", "resume test").status, 0);
  EXPECT_TRUE(gives("backup", "s3cr3t"));
  EXPECT_EQ(transport_kid(), kid);
  EXPECT_TRUE(task_becomes(waits, "done"));
  EXPECT_TRUE(task_becomes(running, "failed")) << "its result was kept until it could be reported";
  EXPECT_EQ(held(running), 1);
  EXPECT_EQ(held(waits), 1);
}

TEST_F(LifecycleTest, T9_R11_ARevokedAgentsTasksEndAndGoOnlyWhereTheyMay) {
  bring_up();
  enrol();
  start_holding(host_, worker_);
  put("backup", "s3cr3t");
  ASSERT_TRUE(gives("backup", "s3cr3t"));
  ASSERT_EQ(instance_.keyagent("alice", "groups test pool").status, 0);
  const auto once = hold(), again = hold(" --group pool --repeatable");
  ASSERT_TRUE(begins(once) && begins(again));
  ASSERT_EQ(instance_.keyagent("alice", "revoke test --reason stolen").status, 0);
  ASSERT_TRUE(link_becomes("refused_by_peer"));
  const auto waits = hold(" --group pool");
  EXPECT_THAT(get("backup"), Not(HasSubstr("s3cr3t")));
  EXPECT_EQ(instance_.keyagent("alice", "resume test").status, 3);

  Host spare;
  WorkerProcess its_worker(spare);
  spare.start();
  spare.json("key create credentials --purpose transport --algorithm ec-p256");
  ASSERT_EQ(instance_.keyagent("alice", "token -o " + spare.file("token").string()).status, 0);
  const auto enrolled = spare.keyagent("enroll " + instance_.api_url() +
                                       " --agent-id spare --token-file token --wait --timeout 60");
  ASSERT_EQ(enrolled.status, 0) << enrolled.output << spare.story();
  ASSERT_EQ(instance_.keyagent("alice", "groups spare pool").status, 0);
  start_holding(spare, its_worker);
  let_go(spare);

  for (const auto& id : {once, again})
    EXPECT_TRUE(becomes("the handlers of " + id + " end", [&] { return !lives(pid_of(id)); }));
  EXPECT_TRUE(task_becomes(again, "done")) << its_worker.log();
  EXPECT_TRUE(task_becomes(waits, "done")) << its_worker.log();
  EXPECT_TRUE(task_becomes(once, "unknown"));
  EXPECT_EQ(alarms("task.unknown"), 1);
  // What the revoked one would still say is not taken, and it was given nothing more.
  EXPECT_EQ(held(spare, again), 1);
  EXPECT_EQ(held(spare, once), 0);
  EXPECT_EQ(held(once), 1);
  EXPECT_EQ(held(again), 1);
  EXPECT_EQ(held(waits), 0);
  EXPECT_EQ(attempt(again), 2);
  EXPECT_EQ(link().at("state"), "refused_by_peer");
}

TEST_F(LifecycleTest, R11_AnAgentKilledInATaskHasItsEffectOnceAndTellsIt) {
  instance_.extra = "times:\n  heartbeat: 1s\n  task-lease: 60s\n";
  bring_up();
  enrol();
  start_holding(host_, worker_);
  const auto once = hold(), again = hold(" --agent test --repeatable");
  ASSERT_TRUE(begins(once) && begins(again));
  for (int i = 0; i < 2; ++i) {
    host_.kill();
    host_.start();
    ASSERT_TRUE(host_.serving()) << host_.story();
  }
  let_go(host_);
  for (const auto& id : {once, again}) {
    EXPECT_TRUE(task_becomes(id, "done"));
    EXPECT_EQ(held(id), 1);
    EXPECT_EQ(attempt(id), 1);
  }
  EXPECT_EQ(alarms("task.unknown"), 0);
}

TEST_F(LifecycleTest, R11_AHostThatDiesInATaskRepeatsOnlyWhatMayBeRepeated) {
  bring_up();
  enrol();
  start_holding(host_, worker_);
  const auto once = hold(), again = hold(" --agent test --repeatable");
  ASSERT_TRUE(begins(once) && begins(again));
  host_.kill();
  worker_.kill();  // its handlers die with it
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  worker_.start();
  EXPECT_TRUE(task_becomes(once, "unknown"));
  ASSERT_TRUE(begins(again, 2));
  let_go(host_);
  EXPECT_TRUE(task_becomes(again, "done"));
  EXPECT_EQ(attempt(again), 2);
  EXPECT_EQ(held(once), 1) << "whether it had its effect is for a person to find out";
  EXPECT_EQ(alarms("task.unknown"), 1);
  ASSERT_EQ(instance_.keyagent("alice", "task retry " + once).status, 0);
  EXPECT_TRUE(task_becomes(once, "done"));
  EXPECT_EQ(held(once), 2);
  EXPECT_EQ(host_.read("held/overlaps"), "");
}

// The fence: the agent is away for longer than a lease, and comes back with its worker's outcome.
TEST_F(LifecycleTest, R11_AnAgentThatIsAwayForLongerThanALeaseNeverRunsATaskTwiceAtOnce) {
  bring_up();
  enrol();
  start_holding(host_, worker_);
  const auto again = hold(" --agent test --repeatable");
  ASSERT_TRUE(begins(again));
  const auto pid = pid_of(again);
  host_.kill();
  EXPECT_TRUE(task_becomes(again, "queued"));
  EXPECT_FALSE(lives(pid)) << "it is given again while it still runs";
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  ASSERT_TRUE(begins(again, 2));
  let_go(host_);
  EXPECT_TRUE(task_becomes(again, "done"));
  EXPECT_EQ(held(again), 2);
  EXPECT_EQ(host_.read("held/overlaps"), "");
}

TEST_F(LifecycleTest, R14_AHostThatMovedIsTrustedAndACopyOfItsIdIsNot) {
  bring_up();
  enrol();
  put("backup", "s3cr3t");
  ASSERT_TRUE(gives("backup", "s3cr3t"));
  const auto kid = transport_kid();
  // The id alone, on another token.
  Host stranger;
  stranger.start();
  ASSERT_EQ(instance_.keyagent("alice", "token -o " + stranger.file("token").string()).status, 0);
  const auto refused =
      stranger.keyagent("enroll " + instance_.api_url() + " --agent-id test --token-file token");
  EXPECT_EQ(refused.status, 6) << refused.output;
  EXPECT_EQ(stranger.json("status").at("link").at("state"), "not_enrolled");
  // Its state folder, on another token.
  ASSERT_EQ(host_.stop(), 0);
  stranger.stop();
  std::filesystem::remove_all(stranger.state());
  run_command("cp -a '" + host_.state().string() + "' '" + stranger.state().string() + "'");
  stranger.start();
  const auto nothing = stranger.keyagent("credential get backup");
  EXPECT_NE(nothing.status, 0);
  EXPECT_THAT(nothing.output, Not(HasSubstr("s3cr3t")));
  EXPECT_EQ(agent().at("shown"), "down");
  stranger.kill();
  // The folder with its token, elsewhere.
  Host moved;
  moved.token_uri = host_.uri();
  for (const std::string name : {"state", "tokens"}) {
    std::filesystem::remove_all(moved.folder() / name);
    run_command("cp -a '" + (host_.folder() / name).string() + "' '" +
                (moved.folder() / name).string() + "'");
  }
  moved.start();
  ASSERT_TRUE(becomes("it is connected", [&] {
    return moved.json("status").at("link").at("state") == "connected";
  })) << moved.story();
  EXPECT_EQ(moved.json("status").at("link").at("transport_kid"), kid);
  EXPECT_THAT(moved.keyagent("credential get backup").output, HasSubstr("s3cr3t"));
  EXPECT_EQ(agent().at("state"), "trusted");
  EXPECT_EQ(alarms("agent.cloned"), 0);
}

TEST_F(LifecycleTest, R15_ALostTokenIsReplacedByOneCommandAndItsCredentialsComeAgain) {
  bring_up();
  enrol();
  put("backup", "s3cr3t");
  put("unseen", "of its author", " --blind");
  ASSERT_TRUE(gives("backup", "s3cr3t") && gives("unseen", "of its author"));
  const Json lost = link();
  ASSERT_EQ(host_.stop(), 0);
  std::filesystem::remove_all(host_.folder() / "tokens");
  std::filesystem::create_directory(host_.folder() / "tokens");
  host_.hsm.add_token(host_.hsm.label());
  host_.token_uri = "pkcs11:token=" + host_.hsm.label();
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  EXPECT_TRUE(becomes("it finds that its key is lost", [this] {
    return link().at("state") == "unreachable";
  })) << link();
  for (const std::string name : {"backup", "unseen"}) {
    const auto nothing = host_.keyagent("credential get " + name);
    EXPECT_NE(nothing.status, 0) << nothing.output;
    EXPECT_THAT(nothing.output, Not(HasSubstr("s3cr3t")));
  }
  EXPECT_EQ(host_.keyagent("doctor").status, 4);
  EXPECT_THAT(host_.keyagent("doctor").output, HasSubstr("keyagent enroll"));

  const std::string enroll = "enroll " + instance_.api_url() + " --replace --wait --timeout 60";
  // A token for anybody does not take its id over.
  ASSERT_EQ(instance_.keyagent("alice", "token -o " + host_.file("any").string()).status, 0);
  EXPECT_NE(host_.keyagent(enroll + " --token-file any").status, 0);
  EXPECT_EQ(agent().at("auth_kid"), lost.at("auth_kid"));
  ASSERT_EQ(
      instance_
          .keyagent("alice", "token --agent test --inherit -o " + host_.file("for-it").string())
          .status,
      0);
  const auto replaced = host_.keyagent(enroll + " --token-file for-it");
  ASSERT_EQ(replaced.status, 0) << replaced.output << told();
  ASSERT_TRUE(link_becomes("connected"));
  EXPECT_NE(link().at("auth_kid"), lost.at("auth_kid"));
  EXPECT_NE(link().at("transport_kid"), lost.at("transport_kid"));
  EXPECT_EQ(agent().at("auth_kid"), link().at("auth_kid"));
  EXPECT_EQ(agent().at("transport_kid"), link().at("transport_kid"));
  EXPECT_TRUE(gives("backup", "s3cr3t"));
  // Only its author can seal a blind one again.
  EXPECT_THAT(get("unseen"), Not(HasSubstr("of its author")));
  put("unseen", "of its author", " --blind");
  EXPECT_TRUE(gives("unseen", "of its author"));
  EXPECT_EQ(host_.keyagent("audit verify").status, 0) << host_.keyagent("audit verify").output;
  // doctor reports what is left of the lost audit key, and the printed fix works.
  const std::string told_of = host_.keyagent("doctor").output, verb = "keyagent key destroy ";
  const auto at = told_of.find(verb);
  ASSERT_NE(at, told_of.npos) << told_of;
  const std::string kid = told_of.substr(at + verb.size(), 43);
  const auto cured = host_.keyagent("key destroy " + kid + " --yes");
  EXPECT_EQ(cured.status, 0) << cured.output;
  EXPECT_EQ(host_.keyagent("doctor").status, 0) << host_.keyagent("doctor").output;
  EXPECT_EQ(host_.keyagent("audit verify").status, 0) << "its checkpoints still verify";
}

}  // namespace
}  // namespace keyagent::test
