// SPDX-License-Identifier: Apache-2.0
// OpenSSH's own programs on a real keyagentd: ssh-add, ssh-keygen, git, ssh and sshd.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/prctl.h>

#include "agent/base/disk.h"
#include "agent/wire/frame.h"
#include "tests/e2e/host.h"
#include "tests/support/free_port.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A stranger: the policy does not name him.
constexpr uid_t kStranger = 61191;
constexpr const char* kSshd = "/usr/sbin/sshd";

class OpenSsh : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* each : {"ssh", "ssh-add", "ssh-keygen", "git"}) {
      if (!program_there(each)) GTEST_SKIP() << each << " is not installed (openssh-client, git)";
    }
    configure("");
  }
  // Starts with an ssh socket that everyone may connect to.
  void configure(const std::string& more) {
    host_.extra = "ssh: {path: " + ssh_socket() + ", mode: 0666" + more + "}\n";
    std::filesystem::remove(ssh_socket());
    host_.start();
    ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(ssh_socket()) || host_.ended(); }));
    ASSERT_FALSE(host_.ended()) << host_.story();
  }
  void restart(const std::string& more) {
    ASSERT_EQ(host_.stop(), 0) << host_.story();
    configure(more);
  }
  std::string ssh_socket() const { return (host_.folder() / "run/ssh.sock").string(); }

  // In the work folder, with nothing of the caller's own ssh and git in the way.
  CommandResult shell(const std::string& line, const std::string& as = {}) const {
    return try_command("cd '" + host_.work.path().string() +
                       "' && HOME=" + host_.work.path().string() +
                       " GIT_CONFIG_NOSYSTEM=1 SSH_AUTH_SOCK=" + ssh_socket() +
                       " SSH_ASKPASS_REQUIRE=never " + as + " " + line + " 2>&1");
  }
  std::string done(const std::string& line) const {
    const auto result = shell(line);
    EXPECT_EQ(result.status, 0) << line << "\n" << result.output << read_text(host_.log());
    return result.output;
  }
  // Makes a key and leaves its public half in NAME.pub.
  void key(const std::string& name, const std::string& algorithm) {
    host_.create(name, "sign", algorithm);
    done("true; KEYAGENT_SOCKET=" + host_.socket().string() + " " KEYAGENT " key public " + name +
         " --format ssh -o " + name + ".pub");
  }
  int audited(const std::string& what) const { return Host::count(host_.audit(), what); }

  Host host_;
};

TEST_F(OpenSsh, OnlySignKeysAreListedWithTheirNames) {
  EXPECT_THAT(shell("ssh-add -l").output, HasSubstr("no identities"));
  for (const char* algorithm : {"ec-p256", "ec-p384", "ed25519", "rsa-2048"})
    key(std::string("k-") + algorithm, algorithm);
  host_.create("credentials", "transport", "rsa-2048");
  host_.create("tls", "auth", "ec-p256");
  host_.create("local", "storage");
  const std::string list = done("ssh-add -L");
  EXPECT_EQ(Host::count(list, "\n"), 4) << list;
  for (const char* algorithm : {"ec-p256", "ec-p384", "ed25519", "rsa-2048"}) {
    const std::string line = host_.read(std::string("k-") + algorithm + ".pub");
    EXPECT_THAT(list, HasSubstr(line)) << "and key public --format ssh says the same";
    EXPECT_THAT(done(std::string("ssh-keygen -l -f k-") + algorithm + ".pub"),
                HasSubstr(std::string("k-") + algorithm));
  }
  EXPECT_THAT(done("ssh-add -l"), HasSubstr("(ED25519)"));
  // ssh-add -T makes a signature and verifies it.
  done("ssh-add -T k-ec-p256.pub k-ec-p384.pub k-ed25519.pub");
  host_.json("key suspend k-ed25519 --reason test");
  EXPECT_THAT(done("ssh-add -L"), Not(HasSubstr("k-ed25519")));
  EXPECT_NE(shell("ssh-add -T k-ed25519.pub").status, 0);
}

TEST_F(OpenSsh, KeysOfOtherPurposesSignNothing) {
  for (const std::string purpose : {"auth", "transport"}) {
    const std::string name = "for-" + purpose;
    host_.create(name, purpose, "ec-p256");
    done("true; KEYAGENT_SOCKET=" + host_.socket().string() + " " KEYAGENT " key public " + name +
         " --format ssh -o " + name + ".pub");
    EXPECT_NE(shell("ssh-add -T " + name + ".pub").status, 0) << name;
  }
  EXPECT_EQ(audited("\"what\":\"sign\""), 0);
}

TEST_F(OpenSsh, FilesAreSignedAndVerifiedAndEachSignatureIsAudited) {
  host_.write("data", "release 1.0");
  for (const std::string algorithm : {"ec-p256", "ec-p384", "ed25519", "rsa-2048"}) {
    const std::string name = "k-" + algorithm;
    key(name, algorithm);
    done("ssh-keygen -Y sign -n file -f " + name + ".pub data");
    done("sh -c 'printf \"me \" > signers && cat " + name + ".pub >> signers'");
    EXPECT_THAT(done("ssh-keygen -Y verify -f signers -I me -n file -s data.sig < data"),
                HasSubstr("Good \"file\" signature for me"));
    EXPECT_NE(shell("ssh-keygen -Y verify -f signers -I me -n file -s data.sig < signers").status,
              0);
    done("rm data.sig");
  }
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_EQ(audited("\"what\":\"sign\""), 4) << host_.audit();
  EXPECT_THAT(host_.audit(), HasSubstr("\"k-ed25519\""));
}

TEST_F(OpenSsh, GitCommitsAreSignedAndVerified) {
  key("committer", "ed25519");
  done("git init -q repository");
  done("sh -c 'printf \"me@example.org \" > signers && cat committer.pub >> signers'");
  const std::string git =
      "git -C repository -c user.name=me -c user.email=me@example.org -c gpg.format=ssh "
      "-c user.signingkey=" +
      host_.file("committer.pub").string() +
      " -c gpg.ssh.allowedSignersFile=" + host_.file("signers").string();
  done(git + " commit -q --allow-empty -S -m first");
  EXPECT_THAT(done(git + " verify-commit HEAD"), HasSubstr("Good \"git\" signature for me@"));
  done(git + " commit -q --allow-empty -m unsigned");
  EXPECT_NE(shell(git + " verify-commit HEAD").status, 0);
}

TEST_F(OpenSsh, KeysAreNeitherAddedNorRemoved) {
  key("stays", "ed25519");
  done("ssh-keygen -q -t ed25519 -N '' -f foreign");
  const auto added = shell("ssh-add foreign");
  EXPECT_NE(added.status, 0);
  EXPECT_THAT(added.output, HasSubstr("Could not add identity"));
  EXPECT_NE(shell("ssh-add -d stays.pub").status, 0);
  EXPECT_NE(shell("ssh-add -D").status, 0);
  EXPECT_NE(shell("ssh-add -s /usr/lib/softhsm/libsofthsm2.so </dev/null").status, 0);
  EXPECT_THAT(done("ssh-add -L"), HasSubstr("stays"));
}

// One frame to the ssh socket and the answer's body; empty when there is none.
Bytes exchange(const std::string& path, const SecretBytes& body) {
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  SecretBytes frame;
  wire::append_frame(frame, body);
  if (::send(fd.get(), frame.data(), frame.size(), MSG_NOSIGNAL) < 0) return {};
  wire::FrameReader reader;
  for (;;) {
    if (const auto answer = reader.next()) return {answer->begin(), answer->end()};
    const auto room = reader.space();
    const auto count = ::recv(fd.get(), room.data(), room.size(), 0);
    if (count <= 0) return {};
    reader.commit(static_cast<std::size_t>(count));
  }
}

TEST_F(OpenSsh, Fault110_StrangerSeesAndUsesNothingAndLearnsNotWhatIsThere) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be another user";
  key("mine", "ed25519");
  done("ssh-keygen -q -t ed25519 -N '' -f unknown");
  // SIGN_REQUEST of a key that is there and of one that is not.
  const std::string make =
      "python3 -c \"import base64,struct,sys; b=base64.b64decode(open(sys.argv[1]).read().split()"
      "[1]); s=lambda x: struct.pack('>I',len(x))+x; open(sys.argv[2],'wb').write(bytes([13])+s(b)"
      "+s(b'data')+bytes(4))\" ";
  done(make + "mine.pub mine.request");
  done(make + "unknown.pub unknown.request");
  const auto request = [&](const std::string& name) {
    const std::string text = host_.read(name + ".request");
    return SecretBytes(text.begin(), text.end());
  };
  const auto mine = request("mine"), unknown = request("unknown");
  EXPECT_EQ(exchange(ssh_socket(), mine).at(0), 14) << "its owner signs with it";
  EXPECT_EQ(exchange(ssh_socket(), unknown), Bytes{5});
  const int status = as_user(kStranger, [&] {
    if (exchange(ssh_socket(), {11}) != Bytes{12, 0, 0, 0, 0}) return 1;
    if (exchange(ssh_socket(), mine) != Bytes{5}) return 2;
    return exchange(ssh_socket(), unknown) == Bytes{5} ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_THAT(host_.audit(), HasSubstr("uid 61191"));
}

TEST_F(OpenSsh, LockHidesAndStopsEveryKeyUntilThePassphraseComes) {
  if (!program_there("setsid")) GTEST_SKIP() << "setsid is not installed (util-linux)";
  key("locked", "ed25519");
  host_.write("askpass", "#!/bin/sh\ncat '" + host_.file("passphrase").string() + "'\n");
  done("chmod 0755 askpass");
  const std::string ask =
      "env SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=" + host_.file("askpass").string() + " ssh-add ";
  host_.write("passphrase", "a long passphrase\n");
  done(ask + "-x");
  EXPECT_THAT(shell("ssh-add -l").output, HasSubstr("no identities"));
  EXPECT_NE(shell("ssh-add -T locked.pub").status, 0);
  EXPECT_NE(shell(ask + "-x").status, 0) << "it is locked already";
  host_.write("passphrase", "a long passphrasf\n");
  EXPECT_NE(shell(ask + "-X").status, 0);
  EXPECT_THAT(shell("ssh-add -l").output, HasSubstr("no identities"));
  host_.write("passphrase", "a long passphrase\n");
  done(ask + "-X");
  done("ssh-add -T locked.pub");
  EXPECT_THAT(read_text(host_.log()) + host_.audit(), Not(HasSubstr("long pass")));
}

// An sshd of the test's own that lets the test's user in with the agent's keys.
class Sshd {
 public:
  Sshd(const Host& host, const std::string& authorized, const std::string& host_key = "ed25519")
      : host_(host) {
    run_command("rm -f " + file("host_key*") + " " + file("sshd.*"));
    run_command("ssh-keygen -q -N '' -f " + file("host_key") + " -t " + host_key);
    // Unprivileged, sshd has no folder for its children; as root it insists on this one.
    if (::geteuid() == 0) std::filesystem::create_directories("/run/sshd");
    host.write("authorized_keys", authorized);
    host.write("sshd_config", "Port " + std::to_string(port_) +
                                  "\nListenAddress 127.0.0.1\nHostKey " + file("host_key") +
                                  "\nPidFile " + file("sshd.pid") + "\nAuthorizedKeysFile " +
                                  file("authorized_keys") +
                                  "\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
                                  "PasswordAuthentication no\nKbdInteractiveAuthentication no\n");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::execl(kSshd, kSshd, "-D", "-f", file("sshd_config").c_str(), "-E", file("sshd.log").c_str(),
              nullptr);
      ::_exit(127);
    }
    // Its pid file comes after listen().
    wait_until([&] { return std::filesystem::exists(file("sshd.pid")); });
    host.write("known_hosts",
               "[127.0.0.1]:" + std::to_string(port_) + " " + read_text(file("host_key.pub")));
  }
  ~Sshd() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
  // `ssh` with one key and these options, logging in here.
  std::string login(const std::string& key, const std::string& options) const {
    return "ssh -F none -p " + std::to_string(port_) + " -o BatchMode=yes -o IdentitiesOnly=yes " +
           "-o UserKnownHostsFile=" + file("known_hosts") + " -o GlobalKnownHostsFile=/dev/null " +
           "-i " + file(key + ".pub") + " " + options + " " + ::getpwuid(::geteuid())->pw_name +
           "@127.0.0.1 ";
  }
  std::string log() const { return read_text(file("sshd.log")); }

 private:
  std::string file(const std::string& name) const { return host_.file(name).string(); }
  const Host& host_;
  const int port_ = free_port();
  pid_t pid_ = 0;
};

bool sshd_there() {
  return std::filesystem::exists(kSshd);
}

TEST_F(OpenSsh, LogsInWithKeysOfEachKind) {
  if (!sshd_there()) GTEST_SKIP() << "sshd is not installed (openssh-server)";
  std::string authorized;
  for (const std::string algorithm : {"ec-p256", "ec-p384", "ed25519", "rsa-2048"}) {
    key("k-" + algorithm, algorithm);
    authorized += host_.read("k-" + algorithm + ".pub");
  }
  const Sshd sshd(host_, authorized);
  for (const std::string algorithm : {"ec-p256", "ec-p384", "ed25519", "rsa-2048"})
    EXPECT_EQ(done(sshd.login("k-" + algorithm, "-q") + "echo in"), "in\n") << sshd.log();
  for (const std::string hash : {"rsa-sha2-256", "rsa-sha2-512"}) {
    const std::string said =
        done(sshd.login("k-rsa-2048", "-v -o PubkeyAcceptedAlgorithms=" + hash) + "echo in");
    EXPECT_THAT(said, HasSubstr("in\n"));
  }
  // A key that the agent has and the server does not know.
  key("other", "ed25519");
  EXPECT_NE(shell(sshd.login("other", "-q") + "echo in").status, 0);
}

TEST_F(OpenSsh, SessionsAreBoundToHostKeysOfEachKind) {
  if (!sshd_there()) GTEST_SKIP() << "sshd is not installed (openssh-server)";
  key("k", "ed25519");
  for (const char* kind : {"ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa"}) {
    const Sshd sshd(host_, host_.read("k.pub"), kind);
    EXPECT_THAT(done(sshd.login("k", "-v") + "true"), HasSubstr("bound agent to hostkey")) << kind;
  }
}

TEST_F(OpenSsh, ForwardedConnectionSignsOnlyWhereTheConfigurationAllowsIt) {
  if (!sshd_there()) GTEST_SKIP() << "sshd is not installed (openssh-server)";
  key("traveller", "ed25519");
  const Sshd sshd(host_, host_.read("traveller.pub"));
  const std::string there = sshd.login("traveller", "-q -A");
  const std::string test = "ssh-add -T " + host_.file("traveller.pub").string();
  EXPECT_THAT(done(there + "ssh-add -L"), HasSubstr("traveller")) << "it may look";
  EXPECT_NE(shell(there + test).status, 0) << "it may not sign";
  done(test);
  restart(", forwarding: true");
  done(there + test);
}

// Writes the program that is asked, and starts with it.
class Confirmed : public OpenSsh {
 protected:
  void ask_by(const std::string& script, const std::string& timeout = "30s") {
    key("deploy", "ed25519");
    key("free", "ed25519");
    // Where the agent's user may write.
    host_.AgentProcess::write("ask", "#!/bin/sh\ncd " + host_.folder().string() + "\n" + script,
                              0755);
    restart(", confirm: {keys: \"dep*\", timeout: " + timeout +
            (script.empty() ? "" : ", program: " + (host_.folder() / "ask").string()) + "}");
  }
  int sign(const std::string& name) const {
    host_.write("data", "release 1.0");
    const int status = shell("ssh-keygen -Y sign -n file -f " + name + ".pub data").status;
    shell("rm -f data.sig");
    return status;
  }
  std::string asked() const { return read_text(host_.folder() / "asked"); }
};

TEST_F(Confirmed, KeySignsWhenTheProgramConfirmsAndItGetsTheKeyAndTheCaller) {
  ask_by("env | grep KEYAGENT | sort > asked; echo looks fine; exit 0\n");
  EXPECT_EQ(sign("free"), 0);
  EXPECT_EQ(asked(), "");
  EXPECT_EQ(sign("deploy"), 0);
  const std::string shown = done("ssh-keygen -l -f deploy.pub");
  EXPECT_THAT(asked(), HasSubstr("KEYAGENT_KEY=deploy\n"));
  EXPECT_THAT(asked(), HasSubstr("KEYAGENT_UID=" + std::to_string(::geteuid()) + "\n"));
  EXPECT_THAT(asked(), HasSubstr("KEYAGENT_DESTINATION=\n"));
  EXPECT_THAT(asked(), HasSubstr("KEYAGENT_FORWARDED=no\n"));
  const std::string named = asked();
  const auto at = named.find("SHA256:");
  ASSERT_NE(at, named.npos);
  EXPECT_THAT(shown, HasSubstr(named.substr(at, named.find('\n', at) - at)));
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_EQ(audited("\"what\":\"ssh.confirm\""), 1);
  EXPECT_THAT(host_.audit(), HasSubstr("looks fine"));
}

TEST_F(Confirmed, KeyDoesNotSignWhenTheProgramSaysAnythingElse) {
  ask_by("exit $(cat answer)\n");
  for (const char* status : {"1", "75", "255"}) {
    host_.AgentProcess::write("answer", status, 0644);
    EXPECT_NE(sign("deploy"), 0) << status;
  }
  host_.AgentProcess::write("answer", "0", 0644);
  EXPECT_EQ(sign("deploy"), 0);
  // Anyone who is refused by the policy does not get as far as a question.
  if (::geteuid() == 0) {
    const auto list = shell("ssh-keygen -Y sign -n file -f deploy.pub data", Host::as_agent());
    EXPECT_NE(list.status, 0);
  }
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_EQ(audited("\"what\":\"ssh.confirm\""), 4);
  EXPECT_EQ(audited("\"what\":\"sign\""), 1);
}

TEST_F(Confirmed, ProgramThatHangsIsKilledAndHoldsUpNoOtherRequest) {
  ask_by("touch asked; sleep 1000\n", "2s");
  std::thread waiting([&] { EXPECT_NE(sign("deploy"), 0); });
  EXPECT_TRUE(wait_until([&] { return std::filesystem::exists(host_.folder() / "asked"); }));
  for (int i = 0; i < 10; ++i) done("ssh-add -T free.pub");
  waiting.join();
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_THAT(host_.audit(), HasSubstr("confirmation timed out"));
}

TEST_F(Confirmed, AgentThatEndsWaitsForNoAnswer) {
  ask_by("touch asked; sleep 1000\n", "10m");
  std::thread waiting([&] { EXPECT_NE(sign("deploy"), 0); });
  EXPECT_TRUE(wait_until([&] { return std::filesystem::exists(host_.folder() / "asked"); }));
  EXPECT_EQ(host_.stop(), 0) << host_.story();
  waiting.join();
  EXPECT_THAT(host_.audit(), HasSubstr("DENIED"));
}

TEST_F(Confirmed, WithoutAProgramTheKeySignsNothing) {
  ask_by("");
  EXPECT_NE(sign("deploy"), 0);
  EXPECT_EQ(sign("free"), 0);
  EXPECT_THAT(done("ssh-add -L"), HasSubstr("deploy"));
  ASSERT_EQ(host_.stop(), 0);
  EXPECT_THAT(host_.audit(), HasSubstr("names no program"));
}

TEST_F(Confirmed, ProgramGetsTheHostOfTheLogin) {
  if (!sshd_there()) GTEST_SKIP() << "sshd is not installed (openssh-server)";
  ask_by("env | grep KEYAGENT_DESTINATION > asked; exit 0\n");
  const Sshd sshd(host_, host_.read("deploy.pub"));
  EXPECT_EQ(done(sshd.login("deploy", "-q") + "echo in"), "in\n") << sshd.log();
  const std::string host_key = done("ssh-keygen -l -f host_key.pub");
  const std::string named = asked().substr(asked().find('=') + 1);
  ASSERT_THAT(named, HasSubstr("SHA256:"));
  EXPECT_THAT(host_key, HasSubstr(named.substr(0, named.find('\n'))));
}

}  // namespace
}  // namespace keyagent::test
