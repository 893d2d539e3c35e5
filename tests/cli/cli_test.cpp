// SPDX-License-Identifier: Apache-2.0
// The real keyagent against the real keyagentd, both provisioned by scripts/provision-token: what a
// person and a script see.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/command.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A provisioned token with an agent on it.
class Agent {
 public:
  Agent() {
    run_command(provision());
    start();
  }
  ~Agent() { stop(); }

  static std::string source(const char* path) { return std::string(KEYAGENT_SOURCE) + "/" + path; }
  std::string provision() const {
    return source("scripts/provision-token") + " --state " + state().string() +
           " --label cli-test --keyagent " KEYAGENT;
  }
  fs::path state() const { return folder_.path() / "state"; }
  fs::path file(const std::string& name) const { return folder_.path() / name; }

  void start() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string log = file("agent.log").string(),
                        config = (state() / "keyagentd.yml").string();
      if (std::freopen(log.c_str(), "a", stderr) == nullptr) ::_exit(127);
      ::execl(KEYAGENTD, "keyagentd", "--config", config.c_str(), "--allow-root", nullptr);
      ::_exit(127);
    }
    for (int i = 0; i < 400 && run("status").status != 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }

  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  // Standard output and error together; `before` is put in front ("printf x |").
  CommandResult run(const std::string& arguments, const std::string& before = {}) const {
    return try_command(before + " KEYAGENT_SOCKET=" + (state() / "run/agent.sock").string() +
                       " " KEYAGENT " " + arguments + " 2>&1");
  }
  Json json(const std::string& arguments, int status = 0) const {
    const auto result = run("--json " + arguments);
    EXPECT_EQ(result.status, status) << arguments << "\n" << result.output;
    return Json::parse(result.output);
  }
  pid_t pid() const { return pid_; }

 private:
  TempFolder folder_;
  pid_t pid_ = 0;
};

class CliTest : public ::testing::Test {
 protected:
  Agent agent_;
};

TEST_F(CliTest, KeysAreMadeListedShownAndDestroyed) {
  const auto made = agent_.json("key create signer --purpose sign");
  EXPECT_EQ(made.at("created"), true);
  EXPECT_EQ(made.at("algorithm"), "ec-p256");
  EXPECT_EQ(agent_.json("key create signer --purpose sign").at("kid"), made.at("kid"));
  EXPECT_EQ(agent_.json("key list").at("keys").size(), 2u);  // and the audit key
  const auto shown = agent_.json("key show signer --prove");
  EXPECT_EQ(shown.at("holds"), true);
  EXPECT_EQ(shown.at("custody").at("CKA_SENSITIVE").at("value"), "true");
  const auto refused = agent_.run("key destroy signer", "echo no |");
  EXPECT_EQ(refused.status, 3);
  EXPECT_THAT(refused.output, HasSubstr("--yes"));
  EXPECT_EQ(agent_.json("key destroy signer --yes").at("state"), "destroyed");
  EXPECT_EQ(agent_.json("key list").at("keys").size(), 1u);
  EXPECT_EQ(agent_.json("key list --all").at("keys").size(), 2u);
}

// On a terminal, which script(1) makes, the kid is typed.
TEST_F(CliTest, R12_DestroyingOnATerminalNeedsTheTypedKid) {
  const auto made = agent_.json("key create signer --purpose sign");
  const std::string kid = made.at("kid");
  const auto destroy = [&](const std::string& typed) {
    return try_command("printf '%s\\n' '" + typed +
                       "' | KEYAGENT_SOCKET=" + (agent_.state() / "run/agent.sock").string() +
                       " script -qec '" KEYAGENT " key destroy signer' /dev/null 2>&1");
  };
  for (const std::string& typed : {std::string(), std::string("yes"), kid.substr(1)}) {
    const auto refused = destroy(typed);
    EXPECT_EQ(refused.status, 3) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr("nothing was destroyed"));
    EXPECT_EQ(agent_.json("key show signer").at("state"), "active");
  }
  const auto done = destroy(kid);
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_EQ(agent_.json("key show " + kid).at("state"), "destroyed");
}

TEST_F(CliTest, AKidThatBeginsWithADashIsNotParsedAsAnOption) {
  const std::string kid = "-" + std::string(41, 'b') + "A";
  for (const auto& line :
       {"key show " + kid, "key destroy " + kid + " --yes", "sign - --key " + kid}) {
    const auto result = agent_.run(line, "printf x |");
    EXPECT_EQ(result.status, 3) << result.output;
    EXPECT_THAT(result.output, HasSubstr(kid));
  }
}

TEST_F(CliTest, AResultThatCannotBeWrittenIsAnError) {
  for (const std::string line : {"key list", "--json status", "key public audit"})
    EXPECT_NE(agent_.run(line + " >/dev/full").status, 0) << line;
}

TEST_F(CliTest, ADeviceOrAPipeIsWrittenToAndNotReplaced) {
  const std::string pipe = agent_.file("pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto got = agent_.run("key public audit -o " + pipe, "cat " + pipe + " & ");
  EXPECT_THAT(got.output, HasSubstr("BEGIN PUBLIC KEY"));
  struct stat info {};
  ASSERT_EQ(::stat(pipe.c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));
}

TEST_F(CliTest, R4_WhatIsSealedInAPipeOpensInAPipe) {
  agent_.json("key create credentials --purpose transport --algorithm rsa-2048");
  agent_.json("key create local --purpose storage");
  for (const std::string how : {"--key credentials", "--key credentials --format cms",
                                "--key local", "--key credentials --encryption A128GCM"}) {
    const auto sealed = agent_.file("sealed");
    EXPECT_EQ(agent_.run("seal - " + how + " -o " + sealed.string(), "printf 'a secret' |").status,
              0)
        << how;
    EXPECT_EQ(agent_.run("open " + sealed.string()).output, "a secret") << how;
    struct stat info {};
    ASSERT_EQ(::stat(sealed.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    // One changed byte in the middle: exit 6 and the same words, whatever it hit.
    run_command(
        "python3 -c \"import sys; p=sys.argv[1]; b=bytearray(open(p,'rb').read()); b[-40]^=1; "
        "open(p,'wb').write(b)\" " +
        sealed.string());
    EXPECT_EQ(agent_.run("open " + sealed.string()).status, 6) << how;
  }
}

TEST_F(CliTest, R12_ARekeyIsFollowedByResealingAndOnlyThenByTheOldKeysEnd) {
  const std::string old = agent_.json("key create credentials --purpose transport").at("kid");
  const auto folder = agent_.file("vault");
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "notes.txt") << "no envelope";
  const auto seal = [&](const std::string& name) {
    EXPECT_EQ(agent_
                  .run("seal - --key credentials -o " + (folder / name).string(),
                       "printf 'secret " + name + "' |")
                  .status,
              0);
  };
  for (const std::string name : {"a", "b", "c"}) seal(name);
  const auto rekeyed = agent_.json("rekey credentials --wait --reason 'a test'");
  EXPECT_EQ(rekeyed.at("step"), "draining");
  EXPECT_EQ(rekeyed.at("old_kid"), old);
  const std::string fresh = rekeyed.at("new_kid");
  EXPECT_EQ(agent_.json("key show credentials").at("kid"), fresh);
  EXPECT_THAT(agent_.json("key show " + old).dump(), HasSubstr("a test")) << "its history";
  EXPECT_THAT(agent_.run("rekey --status").output, HasSubstr("draining"));
  seal("d");
  EXPECT_EQ(agent_.json("census scan " + folder.string()).at("envelopes"), 4);
  const auto refused = agent_.run("key destroy " + old + " --yes");
  EXPECT_EQ(refused.status, 3);
  EXPECT_THAT(refused.output, HasSubstr("3 sealed envelopes name it"));
  EXPECT_EQ(agent_.json("reseal --dry-run " + folder.string()).at("resealed"), 3);
  const auto resealed = agent_.json("reseal " + folder.string());
  EXPECT_EQ(resealed.at("resealed"), 3);
  EXPECT_EQ(resealed.at("current"), 1);
  EXPECT_EQ(agent_.json("reseal " + folder.string()).at("current"), 4) << "nothing is done twice";
  for (const std::string name : {"a", "b", "c", "d"})
    EXPECT_EQ(agent_.run("open " + (folder / name).string()).output, "secret " + name);
  EXPECT_EQ(slurp(folder / "notes.txt"), "no envelope");
  EXPECT_THAT(agent_.run("key destroy " + old + " --yes").output, HasSubstr("drain period"));
  EXPECT_EQ(agent_.run("key revoke " + old + " --yes").status, 0);
  EXPECT_EQ(agent_.run("key destroy " + old + " --yes").status, 0);
  EXPECT_EQ(agent_.run("open " + (folder / "a").string()).output, "secret a");
}

TEST_F(CliTest, AFileThatDoesNotOpenStopsNoOtherAndIsNamed) {
  agent_.json("key create credentials --purpose transport --algorithm ec-p256");
  const auto folder = agent_.file("vault");
  std::filesystem::create_directory(folder);
  for (const char* name : {"broken", "whole"})
    agent_.run("seal - --key credentials -o " + (folder / name).string(), "printf secret |");
  std::string text = slurp(folder / "broken");
  char& sign = text[text.size() - 8];  // another one of the same alphabet
  sign = sign == 'A' ? 'B' : 'A';
  std::ofstream(folder / "broken", std::ios::trunc) << text;
  agent_.json("rekey credentials --wait");
  const auto outcome = agent_.json("reseal " + folder.string(), 7);
  EXPECT_EQ(outcome.at("resealed"), 1);
  EXPECT_THAT(outcome.at("failed").dump(), HasSubstr("broken"));
  EXPECT_EQ(slurp(folder / "broken"), text) << "it is left as it was";
}

TEST_F(CliTest, R16_SuspendAndResumeAndTheWrongWords) {
  const auto kid = agent_.json("key create signer --purpose sign").at("kid");
  EXPECT_EQ(agent_.json("key suspend signer --reason holiday").at("state"), "suspended");
  const auto refused = agent_.run("sign - --key signer", "printf x |");
  EXPECT_EQ(refused.status, 3);
  EXPECT_THAT(refused.output, HasSubstr("suspended"));
  EXPECT_THAT(agent_.run("doctor").output, HasSubstr("keyagent key resume signer"));
  EXPECT_EQ(agent_.json("key resume signer").at("kid"), kid);
  EXPECT_EQ(agent_.run("sign - --key signer -o /dev/null", "printf x |").status, 0);
  EXPECT_EQ(agent_.run("rekey").status, 2) << "of what?";
  EXPECT_EQ(agent_.run("rekey absent").status, 3);
  EXPECT_EQ(agent_.run("rekey signer --algorithm rot13").status, 2);
  EXPECT_EQ(agent_.run("rekey signer --algorithm aes-256").status, 2) << "no sign key can be so";
  EXPECT_EQ(agent_.run("rekey signer --abort").status, 2) << "none is in progress";
  EXPECT_EQ(agent_.run("census scan /nonexistent").status, 2);
  EXPECT_EQ(agent_.run("reseal").status, 2);
  EXPECT_EQ(agent_.run("key resume signer").status, 0) << "it is active already";
  EXPECT_THAT(agent_.run("status").output, HasSubstr("% of 365 d"));
}

TEST_F(CliTest, ASignatureVerifiesHereAndWithOpenssl) {
  std::ofstream(agent_.file("data")) << "release 1.0";
  const std::string data = agent_.file("data").string(), signature = agent_.file("sig").string(),
                    pem = agent_.file("pem").string();
  for (const std::string algorithm : {"ec-p256", "rsa-2048"}) {
    agent_.json("key create k-" + algorithm + " --purpose sign --algorithm " + algorithm);
    const std::string how = algorithm == "rsa-2048" ? " --algorithm RS256" : "";
    EXPECT_EQ(
        agent_.run("sign " + data + " --key k-" + algorithm + how + " -o " + signature).status, 0);
    EXPECT_EQ(agent_.run("key public k-" + algorithm + " -o " + pem).status, 0);
    EXPECT_THAT(run_command("openssl dgst -sha256 -verify " + pem + " -signature " + signature +
                            " " + data),
                HasSubstr("Verified OK"));
    EXPECT_EQ(agent_.run("verify " + data + " --signature " + signature + " --public " + pem + how)
                  .status,
              0);
    std::ofstream(agent_.file("other")) << "release 1.1";
    EXPECT_EQ(agent_
                  .run("verify " + agent_.file("other").string() + " --signature " + signature +
                       " --key k-" + algorithm + how)
                  .status,
              6);
  }
  EXPECT_EQ(agent_.json("sign " + data + " --key k-ec-p256 -o " + signature).at("algorithm"),
            "ES256");
  EXPECT_EQ(agent_.run("verify " + data + " --signature " + signature + " --key k-ec-p256").status,
            0);
  agent_.json("key create ed --purpose sign --algorithm ed25519");
  EXPECT_EQ(agent_.run("sign " + data + " --key ed --format jws -o " + signature).status, 0);
  EXPECT_EQ(agent_.run("verify --format jws --signature " + signature + " --key ed").output,
            "release 1.0");
}

TEST_F(CliTest, StatusDoctorWhyAndAuditHaveTheirFields) {
  EXPECT_EQ(agent_.json("status").at("token").at("state"), "up");
  EXPECT_THAT(agent_.run("reload").output, HasSubstr("reloaded policy"));
  EXPECT_EQ(agent_.json("doctor").at("exit"), 0);
  EXPECT_EQ(agent_.json("why open anything").at("rule"), "owners-administer");
  EXPECT_EQ(agent_.json("why open anything --uid 65533", 3).at("rule"), "default");
  const auto checkpoint = agent_.file("checkpoint.json").string();
  EXPECT_EQ(agent_.json("audit verify --save-checkpoint " + checkpoint).at("ok"), true);
  EXPECT_EQ(agent_.json("audit verify --checkpoint " + checkpoint).at("ok"), true);
  EXPECT_GT(agent_.json("audit tail --count 3").at("records").size(), 0u);
  EXPECT_EQ(agent_.json("config check " + (agent_.state() / "keyagentd.yml").string()).at("usable"),
            true);
}

// Agents of before wrote a name of any length.
TEST_F(CliTest, Fault155_TheTailOfALogWithAHugeRecordShowsItCut) {
  const auto folder = agent_.file("old-audit");
  fs::create_directories(folder);
  std::ofstream(folder / "audit.log") << R"({"seq":0,"what":"refused","who":"uid 1","key":")"
                                      << std::string(250 * 1024, 'x') << "\"}\nno record\n";
  const auto shown = agent_.run("audit tail --folder " + folder.string());
  EXPECT_EQ(shown.status, 0);
  EXPECT_LT(shown.output.size(), 20000u);
  EXPECT_THAT(shown.output, HasSubstr("uid 1"));
  EXPECT_THAT(shown.output, HasSubstr("(cut: the record has 2560"));
  EXPECT_THAT(shown.output, HasSubstr("1 lines are not records"));
  EXPECT_THAT(shown.output, testing::Not(HasSubstr("empty")));
  EXPECT_EQ(agent_.run("key show " + std::string(20000, 'x')).status, 2);
  EXPECT_GT(agent_.json("audit tail").at("records").size(), 0u);
}

TEST_F(CliTest, R1_ARestartKeepsTheKeysAndNoPrivateKeyIsInAFile) {
  const auto kid = agent_.json("key create signer --purpose sign").at("kid");
  agent_.stop();
  agent_.start();
  EXPECT_EQ(agent_.json("key create signer --purpose sign").at("kid"), kid);
  EXPECT_NE(try_command("grep -rlE 'BEGIN [A-Z ]*PRIVATE KEY' " + agent_.state().string()).status,
            0);
}

TEST_F(CliTest, Fault120_Fault121_NoPinIsInAnOutputAnArgumentOrTheEnvironment) {
  const std::string pin = slurp(agent_.state() / "pin");
  ASSERT_EQ(pin.size(), 24u);
  std::string seen = slurp("/proc/" + std::to_string(agent_.pid()) + "/cmdline") +
                     slurp("/proc/" + std::to_string(agent_.pid()) + "/environ");
  for (const char* command : {"status", "doctor", "key list", "audit tail", "--json status"})
    seen += agent_.run(command).output;
  seen += slurp(agent_.file("agent.log")) + slurp(agent_.state() / "audit/audit.log") +
          slurp(agent_.state() / "keyagentd.yml");
  EXPECT_THAT(seen, Not(HasSubstr(pin)));
}

TEST_F(CliTest, ProvisioningTwiceChangesNothing) {
  const auto before = slurp(agent_.state() / "keyagentd.yml") + slurp(agent_.state() / "pin");
  EXPECT_THAT(run_command(agent_.provision()), HasSubstr("nothing changed"));
  EXPECT_EQ(slurp(agent_.state() / "keyagentd.yml") + slurp(agent_.state() / "pin"), before);
}

struct Wrong {
  const char* arguments;
  int status;
  const char* says;
};

TEST_F(CliTest, EveryWrongInputIsOneLineWithItsExitStatus) {
  agent_.json("key create signer --purpose sign");
  const Wrong table[] = {
      {"", 2, "subcommand"},
      {"frobnicate", 2, "frobnicate"},
      {"key create", 2, "NAME"},
      {"key create UPPER --purpose sign", 2, "a-z"},
      {"key create x --purpose nonsense", 2, "unknown purpose"},
      {"key create x --purpose sign --algorithm des", 2, "unknown algorithm"},
      {"key create x --purpose storage --algorithm rsa-2048", 2, "storage"},
      {"key create signer --purpose transport", 3, "exists"},
      {"key show nobody", 3, "nobody"},
      {"sign /nonexistent --key signer", 2, "/nonexistent"},
      {"sign /dev/null --key signer --algorithm RS256", 2, "ES256"},
      {"sign /dev/null --key audit", 3, "audit"},
      {"seal /dev/null", 2, "--key"},
      {"open /dev/null", 6, "INPUT"},
      {"verify /dev/null --signature /dev/null --key signer", 6, "verify"},
      {"why fly", 2, "open"},
      {"why open x --uid 4294967296", 2, "uid"},
      {"why open x --uid -5", 2, "uid"},
      {"audit tail --count 0", 2, "count"},
      {"audit verify --folder /nonexistent", 2, "/nonexistent"},
      {"config check /nonexistent", 2, "/nonexistent"},
      {"--socket /nonexistent/agent.sock status", 5, "/nonexistent/agent.sock"},
      {"token list --profile nonsense", 2, "nonsense"},
      {"token probe --profile softhsm2 --state /tmp --label x --pin-source 1234", 2, "fd:N"},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.arguments);
    const auto result = agent_.run(row.arguments);
    EXPECT_EQ(result.status, row.status) << result.output;
    EXPECT_THAT(result.output, HasSubstr(row.says));
    const auto as_json = agent_.run(std::string("--json ") + row.arguments);
    EXPECT_EQ(as_json.status, row.status);
    EXPECT_FALSE(Json::parse(as_json.output, nullptr, false).is_discarded()) << as_json.output;
  }
}

TEST(Cli, CompletionScriptsParseAndKnowTheCommands) {
  EXPECT_THAT(try_command(KEYAGENT " kye list 2>&1").output, HasSubstr("did you mean 'key'"));
  EXPECT_THAT(try_command(KEYAGENT " key creat x 2>&1").output, HasSubstr("did you mean 'create'"));
  EXPECT_EQ(try_command(KEYAGENT " completion bash | bash -n").status, 0);
  const auto offered = [](const std::string& words, int at) {
    return run_command("bash -c 'eval \"$(" KEYAGENT " completion bash)\"; COMP_WORDS=(" + words +
                       "); COMP_CWORD=" + std::to_string(at) +
                       "; _keyagent; echo ${COMPREPLY[*]}'");
  };
  EXPECT_THAT(offered("keyagent ke", 1), HasSubstr("key"));
  EXPECT_THAT(offered("keyagent --socket /run/x key create --purpose sign --alg", 7),
              HasSubstr("--algorithm"));
  EXPECT_THAT(offered("keyagent key certificate in", 3), HasSubstr("install"));
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_THAT(run_command(std::string(KEYAGENT " completion ") + shell), HasSubstr("change-pin"));
  }
}

TEST(Cli, TheManPageIsCleanAndNamesEveryCommand) {
  EXPECT_EQ(try_command("mandoc -T lint -W warning " CLI_MAN).status, 0);
  const std::string page = slurp(CLI_MAN);
  for (const char* command :
       {"key create", "key destroy", "seal", "open", "sign", "verify", "status", "doctor", "why",
        "audit verify", "token probe", "config check", "setup", "sandbox"}) {
    EXPECT_THAT(page, HasSubstr(std::string("It Ic ") + command));
  }
}

TEST(Cli, TokenCommandsSetUpListProbeAndChangeThePin) {
  const SoftHsm hsm;
  const std::string folder = hsm.folder().string(),
                    common = " --profile softhsm2 --state " + folder;
  std::ofstream(folder + "/pin") << hsm.pin();
  std::ofstream(folder + "/new") << "another-pin-4712";
  run_command("chmod 0400 " + folder + "/pin " + folder + "/new");
  const auto list = Json::parse(run_command(KEYAGENT " --json token list" + common));
  EXPECT_EQ(list.at("tokens").at(0).at("label"), hsm.label());
  const std::string init = KEYAGENT " --json token init" + common + " --pin-source file:" + folder +
                           "/pin --so-pin-source file:" + folder + "/new --label ";
  EXPECT_EQ(Json::parse(run_command(init + hsm.label())).at("already"), true);
  EXPECT_EQ(Json::parse(run_command(init + "second")).at("already"), false);
  const std::string select = common + " --label " + hsm.label() + " --pin-source file:" + folder;
  const auto probe = Json::parse(run_command(KEYAGENT " --json token probe" + select + "/pin"));
  EXPECT_EQ(probe.at("sound"), true);
  EXPECT_GT(probe.at("results").size(), 10u);
  EXPECT_EQ(try_command(KEYAGENT " token change-pin" + select +
                        "/pin --new-pin-source file:" + folder + "/new")
                .status,
            0);
  EXPECT_EQ(try_command(KEYAGENT " token probe" + select + "/pin 2>&1").status, 4);
}

}  // namespace
}  // namespace keyagent::test
