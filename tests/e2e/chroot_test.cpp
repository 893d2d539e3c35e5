// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 174: a program that loads its keys, changes its root directory and its user, and goes
// on with them when the agent was restarted.

#include <gmock/gmock.h>
#include <grp.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "agent/base/disk.h"
#include "tests/e2e/openssl_fixture.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

std::string rule_for(const std::string& name, uid_t uid) {
  return "  - {name: " + name + ", allow: [sign, public, status], who: {user: \"" +
         std::to_string(uid) + "\"}}\n";
}

// A child that connects, leaves the root directory, and asks again each time it gets a byte: one
// byte in, one out.
class Leaver {
 public:
  Leaver(const Host& host, const std::filesystem::path& root, bool survive, bool threads = true) {
    int in[2], out[2];
    if (::pipe(in) != 0 || ::pipe(out) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(in[1]);
      ::close(out[0]);
      ::_exit(live(host, root, survive, threads, in[0], out[1]));
    }
    ::close(in[0]);
    ::close(out[1]);
    to_ = Fd(in[1]);
    from_ = Fd(out[0]);
  }
  ~Leaver() {
    to_ = Fd();
    ::waitpid(pid_, nullptr, 0);
  }
  // 'y': the agent answered. 'n': it could not be reached.
  char ask() const {
    char answer = 'x';
    if (::write(to_.get(), "?", 1) != 1 || ::read(from_.get(), &answer, 1) != 1) return 'x';
    return answer;
  }

 private:
  // As HAProxy bounds its workers: no thread can be started anymore.
  static bool bounded(bool threads) {
    const rlimit none{0, 0};
    return threads || ::setrlimit(RLIMIT_NPROC, &none) == 0;
  }
  static int live(const Host& host, const std::filesystem::path& root, bool survive, bool threads,
                  int in, int out) {
    client::Client agent({host.socket(), std::chrono::seconds(5), survive});
    bool left = false;
    for (char byte = 0; ::read(in, &byte, 1) == 1;) {
      char answer = 'y';
      try {
        agent.call(AgentProcess::status_request());
      } catch (const std::exception&) {
        answer = 'n';
      }
      if (!left && (::chroot(root.c_str()) != 0 || ::chdir("/") != 0 ||
                    ::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0))
        return 1;
      left = true;
      if (::write(out, &answer, 1) != 1) return 1;
    }
    return 0;
  }
  pid_t pid_ = 0;
  Fd to_, from_;
};

TEST(Chroot, Fault174_AClientFindsARestartedAgentFromAnotherRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "chroot needs root";
  Host host;
  host.set_policy(host.policy + rule_for("left", 65534));
  host.start();
  ASSERT_TRUE(host.serving()) << host.story();
  const TempFolder root;
  std::filesystem::permissions(root.path(), std::filesystem::perms(0755));
  const Leaver leaver(host, root.path(), true), other(host, root.path(), false),
      bounded(host, root.path(), true, false);
  EXPECT_EQ(leaver.ask(), 'y');
  EXPECT_EQ(bounded.ask(), 'y');
  EXPECT_EQ(other.ask(), 'y');
  for (int i = 0; i < 2; ++i) {
    host.stop();
    EXPECT_EQ(leaver.ask(), 'n');
    host.start();
    ASSERT_TRUE(host.serving()) << host.story();
    EXPECT_EQ(leaver.ask(), 'y') << "the kernel identifies the caller there too";
    EXPECT_EQ(bounded.ask(), 'y') << "without a thread";
    EXPECT_EQ(other.ask(), 'n') << "the control: without the old root directory there is no agent";
  }
}

// As Debian configures it: the key is loaded by root, the worker is another user in a chroot.
class Haproxy : public OpensslTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0 || !program_there("haproxy") || ::getpwnam("haproxy") == nullptr)
      GTEST_SKIP() << "needs root and haproxy";
    host_.set_policy(host_.policy + rule_for("haproxy", ::getpwnam("haproxy")->pw_uid));
    start_with_provider();
    std::filesystem::permissions(host_.work.path(), std::filesystem::perms(0711));
    host_.json("key create web --purpose auth --algorithm ec-p256");
    ASSERT_EQ(
        host_.keyagent("key csr web --subject /CN=localhost --san DNS:localhost -o web.csr").status,
        0);
    ASSERT_EQ(host_.keyagent("key reference web -o web.key").status, 0);
    host_.shell(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out "
        "ca.pem -subj /CN=authority -days 30 2>&1; openssl x509 -req -in web.csr -CA ca.pem -CAkey "
        "ca.key -CAcreateserial -copy_extensions copy -days 10 -out web.pem 2>&1; cat web.pem "
        "web.key > both.pem");
  }
  void TearDown() override {
    if (std::filesystem::exists(host_.file("haproxy.pid")))
      try_command("kill -TERM $(cat " + host_.file("haproxy.pid").string() + ")");
  }
  void serve(const std::string& global) {
    port_ = std::to_string(free_port());
    host_.write("haproxy.cfg",
                "global\n" + global +
                    "defaults\n  mode http\n  timeout client 20s\n  timeout server 20s\n"
                    "  timeout connect 20s\nfrontend f\n  bind 127.0.0.1:" +
                    port_ + " ssl crt " + host_.file("both.pem").string() +
                    "\n  http-request return status 200 content-type text/plain string served\n");
    run("haproxy -W -f haproxy.cfg >haproxy.log 2>&1 & echo $! >haproxy.pid");
  }
  bool served() const {
    return try_command("curl -sS --max-time 20 --cacert " + host_.file("ca.pem").string() +
                       " https://localhost:" + port_ + "/ 2>&1")
               .output == "served";
  }
  std::string port_;
};

TEST_F(Haproxy, Fault174_ServesFromItsChrootAndAfterARestartOfTheAgent) {
  serve("  user haproxy\n  group haproxy\n  chroot /var/lib/haproxy\n");
  EXPECT_TRUE(wait_until([&] { return served(); })) << host_.read("haproxy.log");
  ASSERT_EQ(host_.stop(), 0);
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  EXPECT_TRUE(wait_until([&] { return served(); })) << host_.read("haproxy.log");
  EXPECT_THAT(host_.audit(), HasSubstr("uid " + std::to_string(::getpwnam("haproxy")->pw_uid)));
}

}  // namespace
}  // namespace keyagent::test
