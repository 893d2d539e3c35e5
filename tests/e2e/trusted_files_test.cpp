// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 162: if a user other than root and the agent's user can change a file that controls
// the agent, the agent refuses the file, and prints its name and the command that fixes it.

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr uid_t kStranger = 65534;
constexpr const char* kSpy = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so";

struct Loose {
  const char* name;
  unsigned mode;  // 0: as it is
  bool stranger;  // belongs to another user
};
constexpr Loose kLoose[] = {
    {"WritableByOthers", 0666, false}, {"WritableByTheGroup", 0664, false}, {"Strangers", 0, true}};

class TrustedFiles : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
    host_.AgentProcess::write("hook", "#!/bin/sh\nexit 0\n", 0755);
    host_.AgentProcess::write("ask", "#!/bin/sh\nexit 1\n", 0755);
    std::filesystem::copy_file(module_of_softhsm(), host_.folder() / "module.so");
    // Its state folder says to root which user the agent is.
    host_.start();
    ASSERT_TRUE(host_.serving()) << host_.story();
    host_.stop();
    host_.token_extra = "  module: " + (host_.folder() / "module.so").string() + "\n";
    host_.extra = "rekey: {hook: " + (host_.folder() / "hook").string() +
                  "}\nssh: {path: " + (host_.folder() / "run/ssh.sock").string() +
                  ", confirm: {keys: asks, program: " + (host_.folder() / "ask").string() + "}}\n";
  }
  static std::filesystem::path module_of_softhsm() {
    for (const char* path :
         {"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
          "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"}) {
      if (std::filesystem::exists(path)) return std::filesystem::canonical(path);
    }
    throw std::runtime_error("softhsm2 is not installed");
  }
  static void loosen(const std::filesystem::path& path, const Loose& loose) {
    if (loose.mode != 0) ASSERT_EQ(::chmod(path.c_str(), loose.mode), 0);
    if (loose.stranger) ASSERT_EQ(::chown(path.c_str(), kStranger, kStranger), 0);
  }
  // The commands that `keyagent config check` prints for its errors.
  std::vector<std::string> cures() {
    const auto result =
        host_.keyagent("--json config check " + (host_.folder() / "keyagentd.yml").string());
    EXPECT_EQ(result.status, 2) << result.output;
    std::vector<std::string> out;
    const Json said = Json::parse(result.output);
    for (const auto& each : said.at("findings")) {
      if (each.at("severity") == "error") out.push_back(each.at("cure"));
    }
    return out;
  }
  // Started with `path` as it is now: refused by name, and what is printed as the fix is one.
  void expect_refused(const std::filesystem::path& path, const std::string& what) {
    EXPECT_EQ(host_.wait(), 2) << what << host_.story();
    EXPECT_THAT(host_.story(), AllOf(HasSubstr(path.string()),
                                     testing::AnyOf(HasSubstr("chmod "), HasSubstr("chown "))))
        << what;
    for (const auto& cure : cures()) host_.shell(cure);
    host_.before_spawn = nullptr;
  }

  Host host_;
};

TEST_F(TrustedFiles, Fault162_EveryFileThatDecidesIsCheckedAndTheFixWorks) {
  for (const std::string file : {"keyagentd.yml", "policy.yml", "profile.yml", "pin",
                                 "softhsm2.conf", "module.so", "hook", "ask"}) {
    const auto path = file == "softhsm2.conf" ? host_.hsm.conf() : host_.folder() / file;
    for (const auto& loose : kLoose) {
      std::filesystem::remove(host_.log());
      host_.before_spawn = [&] { loosen(path, loose); };
      host_.start();
      expect_refused(path, file + " " + loose.name + "\n");
    }
  }
  host_.start();
  EXPECT_TRUE(host_.serving()) << host_.story();
}

TEST_F(TrustedFiles, Fault162_EveryFolderAboveIsCheckedToo) {
  const auto above = host_.folder();
  for (const auto& loose : {Loose{"WritableByOthers", 0777, false}, Loose{"Strangers", 0, true}}) {
    std::filesystem::remove(host_.log());
    host_.before_spawn = [&] { loosen(above, loose); };
    host_.start();
    expect_refused(above, loose.name);
  }
  host_.start();
  EXPECT_TRUE(host_.serving()) << host_.story();
}

TEST_F(TrustedFiles, Fault162_ASymbolicLinkThatOthersCanReplaceIsRefused) {
  std::filesystem::create_directory(host_.file("open"));
  std::filesystem::create_symlink(module_of_softhsm(), host_.file("open/module.so"));
  std::filesystem::permissions(host_.work.path(), std::filesystem::perms(0755));
  ASSERT_EQ(::chmod(host_.file("open").c_str(), 0777), 0);
  host_.token_extra = "  module: " + host_.file("open/module.so").string() + "\n";
  host_.start();
  expect_refused(host_.file("open"), "link");
  std::filesystem::permissions(host_.work.path(), std::filesystem::perms(0711));
  host_.start();
  EXPECT_TRUE(host_.serving()) << host_.story();
}

TEST_F(TrustedFiles, Fault162_AReloadChecksThemAgainAndChangesNothing) {
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  for (const std::string file : {"policy.yml", "profile.yml", "module.so", "hook"}) {
    const auto path = host_.folder() / file;
    loosen(path, kLoose[0]);
    const auto refused = host_.keyagent("reload");
    EXPECT_EQ(refused.status, 2) << file << refused.output;
    EXPECT_THAT(refused.output, AllOf(HasSubstr(path.string()), HasSubstr("chmod go-w"))) << file;
    std::filesystem::permissions(path, std::filesystem::perms(0755));
  }
  EXPECT_EQ(host_.keyagent("reload").status, 0);
}

// The attack that the check is for. The control shows that it works: who controls the profile
// chooses the module, and OpenSC's pkcs11-spy.so writes the PIN to a file.
TEST_F(TrustedFiles, Fault162_ASpyInAProfileOfAnotherUserDoesNotSeeThePin) {
  if (!std::filesystem::exists(kSpy)) GTEST_SKIP() << "opensc-pkcs11 is not installed";
  const auto spied = host_.folder() / "spied";
  std::string profile = host_.profile();
  const auto modules = profile.find("modules:"), rest = profile.find("environment:");
  ASSERT_LT(modules, rest);
  profile.replace(modules, rest - modules, "modules: [" + std::string(kSpy) + "]\n");
  profile.insert(profile.find("environment:\n") + 13,
                 "  PKCS11SPY: " + module_of_softhsm().string() +
                     "\n  PKCS11SPY_OUTPUT: " + spied.string() + "\n");
  const auto spying = [&] { host_.AgentProcess::write("profile.yml", profile, 0644); };
  host_.token_extra.clear();
  host_.before_spawn = [&] {
    spying();
    ASSERT_EQ(::chown((host_.folder() / "profile.yml").c_str(), AgentProcess::kUser, 0), 0);
  };
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  host_.stop();
  const auto log = read_text(spied);
  std::string dump;  // "00000000  31 32 33 …  123…"
  for (const char c : log) dump += c;
  EXPECT_THAT(dump, HasSubstr("C_Login")) << "the control: the spy is between agent and token";
  EXPECT_THAT(dump, HasSubstr(host_.hsm.pin().substr(0, 4)));
  for (const auto& loose : kLoose) {
    std::filesystem::remove(spied);
    std::filesystem::remove(host_.log());
    host_.before_spawn = [&] {
      spying();
      loosen(host_.folder() / "profile.yml", loose);
    };
    host_.start();
    EXPECT_EQ(host_.wait(), 2) << loose.name << host_.story();
    EXPECT_FALSE(std::filesystem::exists(spied)) << loose.name;
  }
}

TEST_F(TrustedFiles, Fault162_TokenCommandsCheckProfileAndModuleBeforeTheyAskForAPin) {
  const auto profile = host_.file("profile.yml"), module = host_.file("module.so");
  host_.write("profile.yml", host_.profile());
  std::filesystem::copy_file(module_of_softhsm(), module);
  host_.shell("install -m 0600 -o root /dev/null softhsm2.conf; cat " + host_.hsm.conf().string() +
              " > softhsm2.conf; sed -i 's#SOFTHSM2_CONF: .*#SOFTHSM2_CONF: " +
              host_.file("softhsm2.conf").string() +
              "#' profile.yml; printf 4711 > pin; chmod "
              "0400 pin");
  const std::string common =
      " --profile " + profile.string() + " --module " + module.string() + " --state .";
  const std::string commands[] = {
      "token list" + common,
      "token init --label fresh --pin-source file:" + host_.file("pin").string() +
          " --so-pin-source file:" + host_.file("pin").string() + common,
      "token probe --label fresh --pin-source file:" + host_.file("pin").string() + common};
  EXPECT_EQ(host_.keyagent(commands[0]).status, 0) << host_.keyagent(commands[0]).output;
  for (const auto& path : {profile, module, host_.file("softhsm2.conf")}) {
    struct stat before {};
    ASSERT_EQ(::stat(path.c_str(), &before), 0);
    for (const auto& loose : kLoose) {
      loosen(path, loose);
      for (const auto& command : commands) {
        const auto said = host_.keyagent(command);
        EXPECT_EQ(said.status, 2) << command << said.output;
        EXPECT_THAT(said.output, HasSubstr(path.string())) << command << loose.name;
      }
      ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
      ASSERT_EQ(::chmod(path.c_str(), before.st_mode), 0);
    }
  }
  EXPECT_EQ(host_.keyagent(commands[0]).status, 0);
}

}  // namespace
}  // namespace keyagent::test
