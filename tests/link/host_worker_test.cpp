// SPDX-License-Identifier: Apache-2.0
// The real keyagent worker, keyagentd and handlers with an instance: what a handler is given, what
// ends it, and that nothing is done twice.

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/e2e/worker_process.h"
#include "tests/link/test_instance.h"

namespace keyagent::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Not one that is dead and that no one has waited for.
bool is_running(const std::string& pid) {
  const std::string stat = read_text("/proc/" + pid + "/stat");
  const auto name_end = stat.rfind(')');
  return name_end != stat.npos && stat.at(name_end + 2) != 'Z';
}

class HostWorker : public testing::Test {
 protected:
  HostWorker() {
    host_.start();
    host_.json("key create credentials --purpose transport --algorithm ec-p256");
    host_.write("token", instance_.make_token() + "\n");
    std::filesystem::permissions(host_.file("token"), std::filesystem::perms(0600));
    const auto enrolled =
        host_.keyagent("enroll " + instance_.url() + " --token-file token --wait --timeout 60");
    EXPECT_EQ(enrolled.status, 0) << enrolled.output << host_.story();
  }

  // Handlers of this name; scripts as WorkerProcess has them.
  void handler(const std::string& name, const std::string& script, const std::string& more = {}) {
    worker_.handler(name, script, more);
  }
  std::string submit(const Submission& wish) {
    const std::string id = instance_.tasks.submit(wish);
    instance_.announce_tasks();
    return id;
  }
  bool becomes(const std::string& id, const std::string& state) {
    const bool reached =
        wait_until([&] { return instance_.tasks.state(id) == state; }, std::chrono::seconds(60));
    EXPECT_TRUE(reached) << state << " and not " << instance_.tasks.state(id) << ": "
                         << instance_.tasks.text(id) << "\n"
                         << worker_.log() << host_.story();
    return reached;
  }
  // Written by a handler: with its line end, so that it is whole.
  std::string line_of(const std::string& file) {
    EXPECT_TRUE(
        wait_until([&] { return !host_.read(file).empty() && host_.read(file).back() == '\n'; },
                   std::chrono::seconds(60)))
        << file << "\n"
        << worker_.log() << host_.story();
    const std::string text = host_.read(file);
    return text.substr(0, text.find('\n'));
  }
  static constexpr const char* kWaits = "while ! [ -e go ]; do sleep 0.05; done\n";

  TestInstance instance_;
  Host host_;
  WorkerProcess worker_{host_};
};

TEST_F(HostWorker, R4_HandlerGetsInputAndCredentialByPipesAndNothingElse) {
  instance_.put_credential("db-main", "canary-4711");
  // The shell has its own output back when mv runs, and "pid" is there no sooner.
  handler("deploy",
          std::string("cat >input; cat <&3 >secret; echo $$ >pid.new; mv pid.new pid\n") + kWaits +
              "echo said; echo complained >&2\n",
          ", credentials: [db-main]");
  worker_.start();
  const auto id = submit({"deploy", R"({"to":"web1"})", "db-main"});
  const std::string proc = "/proc/" + line_of("pid") + "/";
  EXPECT_EQ(host_.read("input"), R"({"to":"web1"})");
  EXPECT_EQ(host_.read("secret"), "canary-4711");
  std::string environment = read_text(proc + "environ");
  std::replace(environment.begin(), environment.end(), '\0', '\n');
  EXPECT_EQ(environment,
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C.UTF-8\n"
            "KEYAGENT_TASK_ID=" +
                id + "\nKEYAGENT_TASK_HANDLER=deploy\nKEYAGENT_TASK_ATTEMPT=1\n");
  EXPECT_THAT(read_text(proc + "cmdline"), AllOf(Not(HasSubstr(id)), Not(HasSubstr("canary"))));
  EXPECT_THAT(read_text(proc + "status"), HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(read_text(proc + "limits"), testing::ContainsRegex("Max core file size +0 +0"));
  std::vector<std::string> open;
  for (const auto& each : std::filesystem::directory_iterator(proc + "fd"))
    open.push_back(std::filesystem::read_symlink(each.path()));
  EXPECT_THAT(open, Each(AnyOf(StartsWith("pipe:"), host_.file("deploy.sh").string())));
  host_.write("go", "");
  becomes(id, "done");
  EXPECT_EQ(instance_.tasks.result(id), "said\n");
  EXPECT_THAT(worker_.log(), AllOf(HasSubstr("complained"), Not(HasSubstr("canary"))));
  EXPECT_THAT(host_.audit(), AllOf(HasSubstr("task.take"), HasSubstr("task.end"), HasSubstr(id)));
  EXPECT_EQ(host_.json("task list").at("tasks").at(0).at("handler"), "deploy");
  EXPECT_EQ(host_.json("status").at("link").at("tasks_running"), 0);
}

TEST_F(HostWorker, ResultIsCutAt64KiBAndAlwaysText) {
  handler("much", "head -c 200000 /dev/zero | tr '\\0' x\n");
  handler("bytes", "printf 'a\\377b'; head -c 1000000 /dev/zero >&2\n");
  worker_.start();
  const auto much = submit({"much"}), bytes = submit({"bytes"});
  becomes(much, "done");
  EXPECT_EQ(instance_.tasks.result(much).size(), 65536u);
  EXPECT_THAT(instance_.tasks.text(much), HasSubstr("truncated"));
  becomes(bytes, "done");
  EXPECT_EQ(instance_.tasks.result(bytes),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_LT(worker_.log().size(), 100000u);
}

TEST_F(HostWorker, TimeLimitKillsTheWholeGroup) {
  handler("slow", "sleep 1000 & echo $! >child; echo $$ >pid; wait\n");
  handler("loud", "exec yes\n", ", seconds: 1");
  worker_.start();
  const auto id = submit({"slow", "{}", "", false, 5, 1});
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), StartsWith("killed after "));
  EXPECT_FALSE(is_running(line_of("pid")));
  EXPECT_TRUE(wait_until([&] { return !is_running(line_of("child")); }));
  const auto loud = submit({"loud"});
  becomes(loud, "failed");
  EXPECT_THAT(instance_.tasks.text(loud), StartsWith("killed after "));
}

TEST_F(HostWorker, WhatAHandlerLeavesBehindEndsWithIt) {
  handler("leaves", "sleep 1000 & echo $! >child\n");
  worker_.start();
  becomes(submit({"leaves"}), "done");
  EXPECT_TRUE(wait_until([&] { return !is_running(line_of("child")); }));
}

TEST_F(HostWorker, MemoryLimitHolds) {
  const std::string script = "set -e\nx=$(head -c 100000000 /dev/zero | tr '\\0' x)\n";
  handler("tight", script, ", memory: 64M");
  handler("free", script);
  worker_.start();
  const auto tight = submit({"tight"}), free = submit({"free"});
  becomes(tight, "failed");
  becomes(free, "done");
}

TEST_F(HostWorker, Exit75AsksForAnotherAttemptUnderTheSameId) {
  handler("deploy", "echo $KEYAGENT_TASK_ID >>ids\n[ $KEYAGENT_TASK_ATTEMPT = 2 ] || exit 75\n");
  worker_.start();
  const auto id = submit({"deploy"});
  ASSERT_TRUE(wait_until([&] { return instance_.tasks.ended().size() == 1; }));
  EXPECT_EQ(instance_.tasks.state(id), "queued");
  instance_.announce_tasks();
  becomes(id, "done");
  EXPECT_EQ(host_.read("ids"), id + "\n" + id + "\n");
  handler("bad", "exit 3\n");
  worker_.signal(SIGHUP);
  const auto bad = submit({"bad"});
  becomes(bad, "failed");
  EXPECT_THAT(instance_.tasks.text(bad), StartsWith("ended with 3 "));
}

TEST_F(HostWorker, R11_KilledWorkerTakesItsHandlerWithIt) {
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  worker_.start();
  submit({"deploy"});
  const auto pid = line_of("pid");
  EXPECT_TRUE(is_running(pid));
  EXPECT_EQ(worker_.end(SIGKILL), 128 + SIGKILL);
  EXPECT_TRUE(wait_until([&] { return !is_running(pid); }));
}

TEST_F(HostWorker, TermLetsHandlersEndAndTakesNothingMore) {
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  worker_.start();
  const auto id = submit({"deploy"});
  line_of("pid");
  worker_.signal(SIGTERM);
  ASSERT_TRUE(wait_until(
      [&] { return worker_.log().find("running handlers may finish") != std::string::npos; }));
  const auto next = submit({"deploy"});
  host_.write("go", "");
  EXPECT_EQ(worker_.wait(), 0);
  becomes(id, "done");
  EXPECT_EQ(instance_.tasks.state(next), "queued");
}

TEST_F(HostWorker, SecondTermKillsHandlersAndReportsIt) {
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  worker_.start();
  const auto id = submit({"deploy"});
  const auto pid = line_of("pid");
  worker_.signal(SIGTERM);
  ASSERT_TRUE(wait_until(
      [&] { return worker_.log().find("running handlers may finish") != std::string::npos; }));
  EXPECT_EQ(worker_.end(), 0);
  EXPECT_FALSE(is_running(pid));
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), HasSubstr("the worker was stopped"));
}

TEST_F(HostWorker, R11_AgentKilledInATaskAndItsEffectHappensOnce) {
  handler("deploy", std::string("echo $KEYAGENT_TASK_ID >>effects\n") + kWaits);
  worker_.start();
  const auto id = submit({"deploy", "{}", "", true});
  line_of("effects");
  host_.kill();
  host_.start();
  host_.write("go", "");
  becomes(id, "done");
  EXPECT_EQ(host_.read("effects"), id + "\n");
  EXPECT_EQ(instance_.tasks.starts(id), 1);
}

TEST_F(HostWorker, R11_HandlerIsKilledBeforeItsLeaseIsOverWhenTheAgentIsAway) {
  instance_.tasks.lease_s = 3;
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  worker_.start();
  const auto id = submit({"deploy"});
  const auto pid = line_of("pid");
  host_.kill();
  EXPECT_TRUE(
      wait_until([&] { return instance_.tasks.state(id) != "started" || !is_running(pid); }));
  EXPECT_FALSE(is_running(pid)) << "the instance may give the task to another by now";
  host_.start();
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), HasSubstr("its lease expired"));
}

TEST_F(HostWorker, LeaseIsKeptAndACancelledTaskIsKilledBeforeItIsOver) {
  instance_.tasks.lease_s = 6;
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  worker_.start();
  const auto id = submit({"deploy"});
  const auto pid = line_of("pid");
  ASSERT_TRUE(wait_until([&] { return instance_.tasks.keeps(id) == 4; })) << "one each third";
  ASSERT_TRUE(is_running(pid));
  instance_.tasks.cancel(id);
  EXPECT_TRUE(
      wait_until([&] { return instance_.tasks.state(id) != "started" || !is_running(pid); }));
  EXPECT_FALSE(is_running(pid));
}

TEST_F(HostWorker, Fault161_AHandlerHasTheCredentialOfItsTaskAndNoOther) {
  instance_.put_credential("db-main", "canary-4711");
  instance_.put_credential("other", "canary-4712");
  // What the handler says of both, although its uid may have every credential.
  const std::string asks =
      "KEYAGENT_SOCKET=" + host_.socket().string() + " " KEYAGENT " credential get ";
  const std::string script = "for name in db-main other; do " + asks +
                             "$name && echo got $name; done >said 2>&1\necho over\n";
  handler("deploy", "cat <&3 >secret\n" + script, ", credentials: [db-main, not-allowed]");
  handler("bare", script);
  host_.set_policy(
      "rules:\n"
      "  - name: all\n    allow: [public, status, admin, credential, sign, open, seal, create]\n"
      "    who: {anyone: true}\n"
      "  - name: works\n    allow: [work]\n    credentials: [db-main]\n    who: {anyone: true}\n");
  ASSERT_EQ(host_.keyagent("reload").status, 0);
  worker_.start();
  becomes(submit({"deploy", "{}", "db-main"}), "done");
  EXPECT_EQ(host_.read("secret"), "canary-4711");
  EXPECT_THAT(host_.read("said"), AllOf(HasSubstr("DENIED"), Not(HasSubstr("got"))));
  EXPECT_THAT(host_.audit(), HasSubstr("task.credential"));
  std::filesystem::remove(host_.file("said"));
  becomes(submit({"bare", "{}", ""}), "done");
  EXPECT_THAT(host_.read("said"), AllOf(HasSubstr("DENIED"), Not(HasSubstr("got"))));
  // The worker's file does not list it; the policy does not give it.
  const auto unlisted = submit({"bare", "{}", "db-main"});
  becomes(unlisted, "failed");
  EXPECT_THAT(instance_.tasks.text(unlisted), HasSubstr("does not list"));
  instance_.put_credential("not-allowed", "canary-4713");
  const auto refused = submit({"deploy", "{}", "not-allowed"});
  becomes(refused, "failed");
  EXPECT_THAT(instance_.tasks.text(refused), HasSubstr("DENIED"));
  // Nothing runs: its user is a user like any other.
  EXPECT_THAT(host_.keyagent("credential get other").output, HasSubstr("canary-4712"));
}

TEST_F(HostWorker, R5_CredentialThatThePolicyDoesNotGiveFailsTheTaskUnstarted) {
  instance_.put_credential("db-main", "canary-4711");
  handler("deploy", "echo ran >ran\n", ", credentials: [db-other]");
  worker_.start();
  const auto id = submit({"deploy", "{}", "db-other"});
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), AllOf(HasSubstr("not started"), HasSubstr("DENIED")));
  EXPECT_FALSE(std::filesystem::exists(host_.file("ran")));
}

TEST_F(HostWorker, ParallelHandlersAreLimitedToTheConfiguredNumber) {
  handler("deploy",
          std::string("if mkdir one; then mine=one; elif mkdir two; then mine=two; "
                      "else mine=more; echo >more; fi\n") +
              kWaits + "rmdir $mine\n",
          ", parallel: 2");
  worker_.start();
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(submit({"deploy"}));
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(host_.file("two")); }));
  EXPECT_EQ(instance_.tasks.state(ids[2]), "queued");
  host_.write("go", "");
  for (const auto& id : ids) becomes(id, "done");
  EXPECT_FALSE(std::filesystem::exists(host_.file("more")));
}

TEST_F(HostWorker, Fault162_AProgramThatOthersMayWriteIsNotStarted) {
  handler("deploy", "exit 0\n");
  worker_.start();
  becomes(submit({"deploy"}), "done");
  std::filesystem::permissions(host_.file("deploy.sh"), std::filesystem::perms(0777));
  const auto id = submit({"deploy"});
  EXPECT_TRUE(wait_until([&] {
    return instance_.tasks.text(id).find("chmod go-w") != std::string::npos;
  })) << instance_.tasks.text(id)
      << worker_.log();
  EXPECT_THAT(instance_.tasks.text(id), HasSubstr("not started"));
  std::filesystem::permissions(host_.file("deploy.sh"), std::filesystem::perms(0755));
  becomes(id, "done");
}

TEST_F(HostWorker, InvalidFileIsRefusedAndTheOldOneStaysActive) {
  handler("deploy", "exit 0\n");
  EXPECT_EQ(host_.keyagent("worker --config worker.yml --check").status, 0);
  worker_.start();
  becomes(submit({"deploy"}), "done");
  const std::string good = host_.read("worker.yml");
  const auto refused = [&](const std::string& text, const std::string& why) {
    host_.write("worker.yml", text);
    const auto result = host_.keyagent("worker --config worker.yml --check");
    EXPECT_EQ(result.status, 2) << text;
    EXPECT_THAT(result.output, HasSubstr(why));
  };
  refused("handlers: {}\n", "no handler");
  refused(good + "  more: {program: relative}\n", "absolute");
  refused(good + "  more: {program: /nowhere/at/all}\n", "is not a program file");
  const std::string user = ::geteuid() == 0 ? ", user: root" : "";
  refused(good + "  more: {program: /bin/sh, memory: much" + user + "}\n", "512M");
  refused(good + "  more: {program: /bin/sh, secnods: 5" + user + "}\n", "seconds");
  std::filesystem::permissions(host_.file("deploy.sh"), std::filesystem::perms(0777));
  refused(good, "chmod go-w");
  std::filesystem::permissions(host_.file("deploy.sh"), std::filesystem::perms(0755));
  host_.write("worker.yml", "handlers: {}\n");
  worker_.signal(SIGHUP);
  ASSERT_TRUE(wait_until([&] { return worker_.log().find("not reloaded") != std::string::npos; }));
  becomes(submit({"deploy"}), "done");
}

TEST_F(HostWorker, HandlerIsTheUserThatTheFileNames) {
  if (::geteuid() != 0) GTEST_SKIP() << "only a worker that is root has handlers of other users";
  handler("deploy", "id -u; id -g; id -G | wc -w\n", ", user: nobody");
  worker_.start();
  const auto id = submit({"deploy"});
  becomes(id, "done");
  EXPECT_THAT(instance_.tasks.result(id), StartsWith("65534\n65534\n1\n"));
}

TEST_F(HostWorker, WorkerThatMayNotWorkReportsItAndWaits) {
  host_.set_policy(Host::allowing("status, admin"));
  ASSERT_EQ(host_.keyagent("reload").status, 0);
  handler("deploy", "exit 0\n");
  worker_.start();
  ASSERT_TRUE(wait_until(
      [&] { return worker_.log().find("keyagent why work deploy") != std::string::npos; }));
  EXPECT_EQ(worker_.end(), 0);
}

}  // namespace
}  // namespace keyagent::test
