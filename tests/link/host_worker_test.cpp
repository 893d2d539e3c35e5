// The real keyagent worker, keyagentd and handlers with an instance: what a handler is given, what
// ends it, and that nothing is done twice.

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/e2e/host.h"
#include "tests/link/test_instance.h"

namespace keyagent::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Not one that is dead and that nobody has waited for.
bool is_running(const std::string& pid) {
  const std::string stat = read_text("/proc/" + pid + "/stat");
  const auto name_end = stat.rfind(')');
  return name_end != stat.npos && stat.at(name_end + 2) != 'Z';
}

class HostWorker : public testing::Test {
 protected:
  HostWorker() {
    host_.write("policy.yml",
                "rules:\n  - name: root\n    allow: [open, sign, public, create, destroy, rekey, "
                "status, audit, admin, credential, work]\n    who: {user: \"" +
                    std::to_string(::geteuid()) + "\"}\n",
                0644);
    host_.start();
    host_.json("key create credentials --purpose transport --algorithm ec-p256");
    host_.write("token", instance_.make_token() + "\n");
    std::filesystem::permissions(host_.file("token"), std::filesystem::perms(0600));
    const auto enrolled =
        host_.keyagent("enroll " + instance_.url() + " --token-file token --wait --timeout 60");
    EXPECT_EQ(enrolled.status, 0) << enrolled.output << host_.story();
    std::filesystem::permissions(host_.work.path(), std::filesystem::perms(0711));
  }
  ~HostWorker() override {
    if (worker_ > 0) end_worker(SIGKILL);
  }

  // A handler of this name. The script runs in the work folder.
  void handler(const std::string& name, const std::string& script, const std::string& more = {}) {
    const auto program = host_.file(name + ".sh");
    std::ofstream(program) << "#!/bin/sh\ncd " << host_.work.path().string() << "\n" << script;
    std::filesystem::permissions(program, std::filesystem::perms(0755));
    const std::string user =
        ::geteuid() != 0 || more.find("user:") != more.npos ? "" : ", user: root";
    handlers_ += "  " + name + ": {program: " + program.string() + user + more + "}\n";
    host_.write("worker.yml", "agent: {socket: " + host_.socket().string() +
                                  ", poll: 50ms}\nhandlers:\n" + handlers_);
  }
  void start_worker() {
    worker_ = ::fork();
    if (worker_ != 0) return;
    const int out = ::open(host_.file("worker.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execl(KEYAGENT, "keyagent", "worker", "--config", host_.file("worker.yml").c_str(), nullptr);
    ::_exit(127);
  }
  int wait_worker() {
    int status = 0;
    ::waitpid(worker_, &status, 0);
    worker_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int end_worker(int signal = SIGTERM) {
    ::kill(worker_, signal);
    return wait_worker();
  }
  std::string worker_log() const { return host_.read("worker.log"); }

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
                         << worker_log() << host_.story();
    return reached;
  }
  // Written by a handler: with its line end, so that it is whole.
  std::string line_of(const std::string& file) {
    EXPECT_TRUE(
        wait_until([&] { return !host_.read(file).empty() && host_.read(file).back() == '\n'; },
                   std::chrono::seconds(60)))
        << file << "\n"
        << worker_log() << host_.story();
    const std::string text = host_.read(file);
    return text.substr(0, text.find('\n'));
  }
  static constexpr const char* kWaits = "while ! [ -e go ]; do sleep 0.05; done\n";

  TestInstance instance_;
  Host host_;
  std::string handlers_;
  pid_t worker_ = 0;
};

TEST_F(HostWorker, R4_HandlerGetsInputAndCredentialByPipesAndNothingElse) {
  instance_.put_credential("db-main", "canary-4711");
  handler("deploy", std::string("cat >input; cat <&3 >secret; echo $$ >pid\n") + kWaits +
                        "echo said; echo complained >&2\n");
  start_worker();
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
  EXPECT_THAT(worker_log(), AllOf(HasSubstr("complained"), Not(HasSubstr("canary"))));
  EXPECT_THAT(host_.audit(), AllOf(HasSubstr("task.take"), HasSubstr("task.end"), HasSubstr(id)));
  EXPECT_EQ(host_.json("task list").at("tasks").at(0).at("handler"), "deploy");
  EXPECT_EQ(host_.json("status").at("link").at("tasks_running"), 0);
}

TEST_F(HostWorker, ResultIsCutAt64KiBAndAlwaysText) {
  handler("much", "head -c 200000 /dev/zero | tr '\\0' x\n");
  handler("bytes", "printf 'a\\377b'; head -c 1000000 /dev/zero >&2\n");
  start_worker();
  const auto much = submit({"much"}), bytes = submit({"bytes"});
  becomes(much, "done");
  EXPECT_EQ(instance_.tasks.result(much).size(), 65536u);
  EXPECT_THAT(instance_.tasks.text(much), HasSubstr("cut"));
  becomes(bytes, "done");
  EXPECT_EQ(instance_.tasks.result(bytes),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_LT(worker_log().size(), 100000u);
}

TEST_F(HostWorker, TimeLimitKillsTheWholeGroup) {
  handler("slow", "sleep 1000 & echo $! >child; echo $$ >pid; wait\n");
  handler("loud", "exec yes\n", ", seconds: 1");
  start_worker();
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
  start_worker();
  becomes(submit({"leaves"}), "done");
  EXPECT_TRUE(wait_until([&] { return !is_running(line_of("child")); }));
}

TEST_F(HostWorker, MemoryLimitHolds) {
  const std::string script = "set -e\nx=$(head -c 100000000 /dev/zero | tr '\\0' x)\n";
  handler("tight", script, ", memory: 64M");
  handler("free", script);
  start_worker();
  const auto tight = submit({"tight"}), free = submit({"free"});
  becomes(tight, "failed");
  becomes(free, "done");
}

TEST_F(HostWorker, Exit75AsksForAnotherAttemptUnderTheSameId) {
  handler("deploy", "echo $KEYAGENT_TASK_ID >>ids\n[ $KEYAGENT_TASK_ATTEMPT = 2 ] || exit 75\n");
  start_worker();
  const auto id = submit({"deploy"});
  ASSERT_TRUE(wait_until([&] { return instance_.tasks.ended().size() == 1; }));
  EXPECT_EQ(instance_.tasks.state(id), "queued");
  instance_.announce_tasks();
  becomes(id, "done");
  EXPECT_EQ(host_.read("ids"), id + "\n" + id + "\n");
  handler("bad", "exit 3\n");
  ::kill(worker_, SIGHUP);
  const auto bad = submit({"bad"});
  becomes(bad, "failed");
  EXPECT_THAT(instance_.tasks.text(bad), StartsWith("ended with 3 "));
}

TEST_F(HostWorker, R11_KilledWorkerTakesItsHandlerWithIt) {
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  start_worker();
  submit({"deploy"});
  const auto pid = line_of("pid");
  EXPECT_TRUE(is_running(pid));
  EXPECT_EQ(end_worker(SIGKILL), 128 + SIGKILL);
  EXPECT_TRUE(wait_until([&] { return !is_running(pid); }));
}

TEST_F(HostWorker, TermLetsHandlersEndAndTakesNothingMore) {
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  start_worker();
  const auto id = submit({"deploy"});
  line_of("pid");
  ::kill(worker_, SIGTERM);
  ASSERT_TRUE(wait_until([&] { return worker_log().find("taking no more") != std::string::npos; }));
  const auto next = submit({"deploy"});
  host_.write("go", "");
  EXPECT_EQ(wait_worker(), 0);
  becomes(id, "done");
  EXPECT_EQ(instance_.tasks.state(next), "queued");
}

TEST_F(HostWorker, SecondTermKillsHandlersAndSaysSo) {
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  start_worker();
  const auto id = submit({"deploy"});
  const auto pid = line_of("pid");
  ::kill(worker_, SIGTERM);
  ASSERT_TRUE(wait_until([&] { return worker_log().find("taking no more") != std::string::npos; }));
  EXPECT_EQ(end_worker(), 0);
  EXPECT_FALSE(is_running(pid));
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), HasSubstr("the worker was told to end"));
}

TEST_F(HostWorker, R11_AgentKilledInATaskAndItsEffectHappensOnce) {
  handler("deploy", std::string("echo $KEYAGENT_TASK_ID >>effects\n") + kWaits);
  start_worker();
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
  start_worker();
  const auto id = submit({"deploy"});
  const auto pid = line_of("pid");
  host_.kill();
  while (instance_.tasks.state(id) == "started" && is_running(pid))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(is_running(pid)) << "the instance may give the task to another by now";
  host_.start();
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), HasSubstr("its lease had gone"));
}

TEST_F(HostWorker, LeaseIsKeptAndACancelledTaskIsKilledBeforeItIsOver) {
  instance_.tasks.lease_s = 5;
  handler("deploy", std::string("echo $$ >pid\n") + kWaits);
  start_worker();
  const auto id = submit({"deploy"});
  const auto pid = line_of("pid");
  // The next time it is kept, for three times as long.
  instance_.tasks.lease_s = 15;
  std::this_thread::sleep_for(std::chrono::seconds(7));
  ASSERT_TRUE(is_running(pid)) << "its lease is kept";
  instance_.tasks.cancel(id);
  EXPECT_TRUE(wait_until([&] { return !is_running(pid); }, std::chrono::seconds(9)));
}

TEST_F(HostWorker, R5_CredentialThatThePolicyDoesNotGiveFailsTheTaskUnstarted) {
  instance_.put_credential("db-main", "canary-4711");
  handler("deploy", "echo ran >ran\n");
  start_worker();
  const auto id = submit({"deploy", "{}", "db-other"});
  becomes(id, "failed");
  EXPECT_THAT(instance_.tasks.text(id), AllOf(HasSubstr("not started"), HasSubstr("DENIED")));
  EXPECT_FALSE(std::filesystem::exists(host_.file("ran")));
}

TEST_F(HostWorker, SoManyAtOnceAsTheFileSaysAndNoMore) {
  handler("deploy", std::string("echo $$ >pid.$KEYAGENT_TASK_ID\n") + kWaits, ", parallel: 2");
  start_worker();
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(submit({"deploy"}));
  ASSERT_TRUE(wait_until([&] { return host_.json("task list").at("running") == 2; }));
  line_of("pid." + ids[1]);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(instance_.tasks.state(ids[2]), "queued");
  host_.write("go", "");
  for (const auto& id : ids) becomes(id, "done");
}

TEST_F(HostWorker, FileWithAFaultIsRefusedAndLeavesTheOldOneInForce) {
  handler("deploy", "exit 0\n");
  EXPECT_EQ(host_.keyagent("worker --config worker.yml --check").status, 0);
  start_worker();
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
  refused(good + "  more: {program: /nowhere/at/all}\n", "no program");
  const std::string user = ::geteuid() == 0 ? ", user: root" : "";
  refused(good + "  more: {program: /bin/sh, memory: much" + user + "}\n", "512M");
  refused(good + "  more: {program: /bin/sh, secnods: 5" + user + "}\n", "seconds");
  std::filesystem::permissions(host_.file("deploy.sh"), std::filesystem::perms(0777));
  refused(good, "chmod go-w");
  std::filesystem::permissions(host_.file("deploy.sh"), std::filesystem::perms(0755));
  host_.write("worker.yml", "handlers: {}\n");
  ::kill(worker_, SIGHUP);
  ASSERT_TRUE(wait_until([&] { return worker_log().find("not reloaded") != std::string::npos; }));
  becomes(submit({"deploy"}), "done");
}

TEST_F(HostWorker, HandlerIsTheUserThatTheFileNames) {
  if (::geteuid() != 0) GTEST_SKIP() << "only a worker that is root has handlers of other users";
  handler("deploy", "id -u; id -g; id -G | wc -w\n", ", user: nobody");
  start_worker();
  const auto id = submit({"deploy"});
  becomes(id, "done");
  EXPECT_THAT(instance_.tasks.result(id), StartsWith("65534\n65534\n1\n"));
}

TEST_F(HostWorker, WorkerThatMayNotWorkIsToldSoAndWaits) {
  host_.write("policy.yml",
              "rules:\n  - name: root\n    allow: [status, admin]\n    who: {user: \"" +
                  std::to_string(::geteuid()) + "\"}\n",
              0644);
  if (::geteuid() == 0) host_.shell("chown 61190 " + (host_.folder() / "policy.yml").string());
  ASSERT_EQ(host_.keyagent("reload").status, 0);
  handler("deploy", "exit 0\n");
  start_worker();
  ASSERT_TRUE(wait_until(
      [&] { return worker_log().find("keyagent why work deploy") != std::string::npos; }));
  EXPECT_EQ(end_worker(), 0);
}

}  // namespace
}  // namespace keyagent::test
