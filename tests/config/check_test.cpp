// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/config/config.h"
#include "tests/support/temp_folder.h"

namespace keyagent::config {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

auto finding(const char* severity, const std::string& text, const std::string& cure) {
  return AllOf(Field(&ConfigFinding::severity, severity),
               Field(&ConfigFinding::text, HasSubstr(text)),
               Field(&ConfigFinding::cure, HasSubstr(cure)));
}

// A configuration with nothing to say about, and a way to seed one trap at a time.
class ConfigCheck : public ::testing::Test {
 protected:
  ConfigCheck() {
    for (const char* name : {"state", "state/audit", "run"}) {
      std::filesystem::create_directory(at(name));
      ::chmod(at(name).c_str(), 0700);
    }
    write("token.so", "not a module, but a file that could be one", 0644);
    write("state/softhsm2.conf", "directories.tokendir = /nonexistent\n", 0600);
    write("pin", "1234", 0400);
    write("policy.yml", "rules:\n  - {name: r, allow: open, who: {user: root}}\n", 0644);
    configure("");
  }

  std::filesystem::path at(const std::string& name) const { return folder_.path() / name; }
  void write(const std::string& name, const std::string& text, unsigned mode) const {
    replace_file(at(name), as_bytes(text), mode);
  }
  void configure(const std::string& more, const std::string& pin = "",
                 const std::string& profile = "softhsm2") const {
    const std::string folder = folder_.path().string();
    write("keyagentd.yml",
          "state-folder: " + folder + "/state\npolicy: policy.yml\nsocket: {path: " + folder +
              "/run/agent.sock}\ntoken:\n  uri: pkcs11:token=mail\n  profile: " + profile +
              "\n  module: " + folder + "/token.so\n  pin: " +
              (pin.empty() ? "{file: " + folder + "/pin}" : pin) + "\n" + more,
          0644);
  }
  void mode(const std::string& name, unsigned mode) const {
    ASSERT_EQ(::chmod(at(name).c_str(), mode), 0);
  }
  std::vector<ConfigFinding> check() const { return check_config(at("keyagentd.yml")); }

  test::TempFolder folder_;
};

TEST_F(ConfigCheck, T4_CleanConfigurationHasNoFinding) {
  for (const auto& each : check())
    ADD_FAILURE() << each.severity << " " << each.where << ": " << each.text;
}

TEST_F(ConfigCheck, T4_EachInsecureModeIsReportedWithItsFix) {
  struct Trap {
    const char* file;
    unsigned loose, tight;
    const char* cure;
  };
  const Trap kTraps[] = {
      {"keyagentd.yml", 0664, 0644, "chmod go-w"}, {"keyagentd.yml", 0646, 0644, "chmod go-w"},
      {"policy.yml", 0666, 0644, "chmod go-w"},    {"pin", 0440, 0400, "chmod 0400"},
      {"pin", 0604, 0400, "chmod 0400"},           {"state", 0750, 0700, "chmod 0700"},
      {"state", 0701, 0700, "chmod 0700"},         {"state/audit", 0777, 0700, "chmod 0700"},
      {"run", 0770, 0750, "chmod go-w"},           {"token.so", 0666, 0644, "chmod go-w"}};
  for (const Trap& trap : kTraps) {
    mode(trap.file, trap.loose);
    const std::string cure = std::string(trap.cure) + " " + at(trap.file).string();
    const auto findings = check();
    EXPECT_THAT(findings, ElementsAre(finding("error", "", cure))) << trap.file;
    mode(trap.file, trap.tight);
    EXPECT_THAT(check(), IsEmpty()) << trap.file;
  }
}

TEST_F(ConfigCheck, Fault162_ProfileAndParentFoldersAreReportedOnceWithTheirFix) {
  write("profile.yml",
        std::string(as_text(read_file(KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml"))), 0644);
  configure("", "", at("profile.yml").string());
  EXPECT_THAT(check(), IsEmpty());
  for (const unsigned loose : {0666U, 0664U, 0646U}) {
    mode("profile.yml", loose);
    EXPECT_THAT(check(), ElementsAre(finding("error", "the profile may be written by others",
                                             "chmod go-w " + at("profile.yml").string())));
    EXPECT_THROW(load_config(at("keyagentd.yml")), Error);
  }
  mode("profile.yml", 0644);
  ::chmod(folder_.path().c_str(), 0777);
  EXPECT_THAT(check(), ElementsAre(finding("error", "could be replaced",
                                           "chmod go-w " + folder_.path().string())));
  EXPECT_THROW(load_config(at("keyagentd.yml")), Error);
  ::chmod(folder_.path().c_str(), 01777);
  EXPECT_THAT(check(), IsEmpty()) << "sticky: each file is its owner's";
  ::chmod(folder_.path().c_str(), 0755);
}

TEST_F(ConfigCheck, Fault162_WhatTheProfilesEnvironmentNamesIsChecked) {
  std::string profile(as_text(read_file(KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml")));
  const auto place = profile.find("environment:");
  ASSERT_NE(place, std::string::npos);
  profile.insert(profile.find('\n', place) + 1, "  VENDOR_CONF: ${state}/vendor.conf\n");
  write("profile.yml", profile, 0644);
  write("state/vendor.conf", "", 0644);
  configure("", "", at("profile.yml").string());
  EXPECT_THAT(check(), IsEmpty());
  mode("state/vendor.conf", 0666);
  EXPECT_THAT(check(), ElementsAre(finding("error", "what VENDOR_CONF of the profile names",
                                           "chmod go-w " + at("state/vendor.conf").string())));
}

TEST_F(ConfigCheck, Fault176_TheFormOfThePinFileIsChecked) {
  const std::pair<std::string, const char*> kForms[] = {{"1234\r\n\r\n", "line end"},
                                                        {"\xef\xbb\xbf"
                                                         "1234\n",
                                                         "byte order mark"},
                                                        {"1234 ", "white space"}};
  for (const auto& [text, why] : kForms) {
    write("pin", text, 0400);
    EXPECT_THAT(check(), ElementsAre(finding("error", why, "install -m 0400")));
  }
  write("pin", "1234\r\n", 0400);
  EXPECT_THAT(check(), IsEmpty());
}

TEST_F(ConfigCheck, T4_AllTrapsAtOnceAreAllNamed) {
  for (const char* file : {"keyagentd.yml", "policy.yml", "pin", "token.so", "state", "run"})
    mode(file, 0777);
  const auto findings = check();
  for (const char* file : {"keyagentd.yml", "policy.yml", "pin", "token.so", "state", "run"}) {
    EXPECT_THAT(findings, Contains(Field(&ConfigFinding::where, at(file).string()))) << file;
  }
}

TEST_F(ConfigCheck, T4_FilesOfAnotherUserAreNamed) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  for (const char* file : {"keyagentd.yml", "policy.yml", "pin", "token.so", "run"}) {
    ASSERT_EQ(::chown(at(file).c_str(), 65534, 65534), 0);
    EXPECT_THAT(check(), ElementsAre(finding("error", "belongs to uid 65534", "chown 0"))) << file;
    ASSERT_EQ(::chown(at(file).c_str(), 0, 0), 0);
  }
  // Run by root for an agent that runs as another user: that user's own files are in order.
  for (const char* file : {"state", "state/audit", "pin", "run"})
    ASSERT_EQ(::chown(at(file).c_str(), 65534, 65534), 0);
  EXPECT_THAT(check(), IsEmpty());
}

// Root checks the configuration before the agent's first start: a PIN file that the agent's user
// owns is not an error, and no printed fix changes its owner.
TEST_F(ConfigCheck, T4_BeforeTheFirstStartRootIsNotToldToTakeTheAgentsFiles) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  std::filesystem::remove_all(at("state"));
  for (const char* file : {"pin", "run"}) ASSERT_EQ(::chown(at(file).c_str(), 65534, 65534), 0);
  const auto findings = check();
  EXPECT_THAT(findings, ElementsAre(finding("warning", "belongs to uid 65534", "runuser -u USER"),
                                    finding("warning", "belongs to uid 65534", "runuser -u USER")));
  for (const auto& each : findings) EXPECT_THAT(each.cure, Not(HasSubstr("chown 0")));
  mode("pin", 0444);
  EXPECT_THAT(check(), Contains(finding("error", "is readable by others", "chmod 0400")));
}

TEST_F(ConfigCheck, T4_AWorkRuleThatNamesNoCredentialsIsAWarning) {
  const auto with = [&](const std::string& more) {
    write("policy.yml",
          "rules:\n  - {name: w, allow: work, keys: [deploy], who: {user: root}" + more + "}\n",
          0644);
    return check();
  };
  EXPECT_THAT(with(""), ElementsAre(finding("warning", "names no credentials", "credentials:")));
  EXPECT_THAT(with(", credentials: [db-main]"), IsEmpty());
  EXPECT_THAT(with(", credentials: []"), IsEmpty());
}

TEST_F(ConfigCheck, T4_MissingPartsAreNamed) {
  const std::pair<const char*, const char*> kParts[] = {{"policy.yml", "the policy does not exist"},
                                                        {"pin", "the PIN file does not exist"},
                                                        {"token.so", "is not installed"}};
  for (const auto& [file, text] : kParts) {
    std::filesystem::rename(at(file), at("aside"));
    EXPECT_THAT(check(), ElementsAre(finding("error", text, ""))) << file;
    std::filesystem::rename(at("aside"), at(file));
  }
  std::filesystem::remove(at("keyagentd.yml"));
  EXPECT_THAT(check(), ElementsAre(finding("error", "No such file", "")));
}

TEST_F(ConfigCheck, T4_PinTrapsAreNamed) {
  configure("", "{prompt: true}");
  EXPECT_THAT(check(), ElementsAre(finding("warning", "prompted for at each start", "credential")));
  configure("", "{env: KEYAGENT_PIN}");
  EXPECT_THAT(check(), ElementsAre(finding("error", "must not be in the environment", "")));
  configure("");
  write("pin", "", 0400);
  EXPECT_THAT(check(), ElementsAre(finding("error", "is empty", "install -m 0400")));
  std::filesystem::remove(at("pin"));
  std::filesystem::create_symlink(at("policy.yml"), at("pin"));
  EXPECT_THAT(check(), ElementsAre(finding("error", "not a regular file", "")));
}

TEST_F(ConfigCheck, T4_PolicyTrapsAreNamed) {
  write("policy.yml", "rules:\n  - {name: r, allow: open, who: {user: nobody-of-this-name}}\n",
        0644);
  EXPECT_THAT(check(),
              ElementsAre(finding(
                  "error", "policy.yml:2: this host has no user 'nobody-of-this-name'", "")));
  write("policy.yml", "rules:\n  - {name: wide, allow: sign, who: {anyone: true}}\n", 0644);
  EXPECT_THAT(check(), ElementsAre(finding("warning", "'wide' lets every user", "name users")));
  write("policy.yml", "rules: []\n", 0644);
  EXPECT_THAT(check(), ElementsAre(finding("warning", "everything is denied", "add a rule")));
}

TEST_F(ConfigCheck, T4_SettingsThatContradictOrWeakenAreNamed) {
  configure("limits: {connections: 5, connections-per-uid: 6}\n");
  EXPECT_THAT(check(), ElementsAre(finding("error", "use all connections", "below 5")));
  configure("  deadline: 10s\n  stuck-exit: 5s\n");
  EXPECT_THAT(check(),
              ElementsAre(finding("error", "shorter than one operation", "above 10000ms")));
  configure("");
  std::string socket(as_text(read_file(at("keyagentd.yml"))));
  const auto place = socket.find("/run/agent.sock}") + 15;
  write("keyagentd.yml", std::string(socket).insert(place, ", mode: 0666"), 0644);
  EXPECT_THAT(check(), ElementsAre(finding("warning", "open to every user", "0660")));
  write("keyagentd.yml", std::string(socket).insert(place, ", group: no-group-of-this-name"), 0644);
  EXPECT_THAT(check(),
              ElementsAre(finding("error", "no group 'no-group-of-this-name'", "groupadd")));
  mode("run", 01777);
  write("keyagentd.yml", socket, 0644);
  EXPECT_THAT(check(), ElementsAre(finding("error", "shared by all users", "private folder")));
}

TEST_F(ConfigCheck, T4_SshSocketIsCheckedAsTheMainOneIs) {
  const std::string run = at("run").string();
  configure("ssh: {path: " + run + "/ssh.sock}\n");
  EXPECT_THAT(check(), ElementsAre());
  configure("ssh: {path: " + run + "/ssh.sock, mode: 0666, group: no-group-of-this-name}\n");
  EXPECT_THAT(check(), ElementsAre(finding("error", "no group 'no-group-of-this-name'", "groupadd"),
                                   finding("warning", "ssh socket is open", "ssh.mode to 0660")));
  std::filesystem::create_directory(at("shared"));
  mode("shared", 01777);
  configure("ssh: {path: " + at("shared").string() + "/ssh.sock}\n");
  EXPECT_THAT(check(),
              ElementsAre(finding("error", "the ssh socket's folder is shared", "private folder")));
}

TEST_F(ConfigCheck, T4_ProfileThatWasNotTestedIsAWarning) {
  std::string profile(as_text(read_file(KEYAGENT_SOURCE "/hsm-profiles/softhsm2.yml")));
  const auto place = profile.find("tested: true");
  ASSERT_NE(place, std::string::npos);
  write("vendor.yml", profile.replace(place, 12, "tested: false"), 0644);
  configure("", "", at("vendor.yml").string());
  EXPECT_THAT(check(), ElementsAre(finding("warning", "'vendor' comes from documentation",
                                           "keyagent token probe")));
}

TEST_F(ConfigCheck, Fault121_NoFindingRepeatsThePin) {
  configure("", "s3cr3t");
  for (const auto& each : check()) {
    EXPECT_THAT(each.text + each.cure + each.where, Not(HasSubstr("s3cr3t")));
  }
}

TEST_F(ConfigCheck, Fault122_DaemonRefusesAFileThatOthersMayWrite) {
  EXPECT_NO_THROW(load_config(at("keyagentd.yml")));
  mode("keyagentd.yml", 0666);
  EXPECT_THROW(load_config(at("keyagentd.yml")), Error);
}

TEST_F(ConfigCheck, ProgramThatSshAsksIsTrustedAsTheAgentItself) {
  const std::string socket = "ssh: {path: " + at("run/ssh.sock").string() + ", confirm: ";
  configure(socket + "{keys: deploy}}\n");
  EXPECT_THAT(check(), ElementsAre(finding("warning", "no program", "ssh.confirm.program")));
  configure(socket + "{keys: deploy, program: " + at("ask").string() + "}}\n");
  EXPECT_THAT(check(), ElementsAre(finding("error", "does not exist", "")));
  write("ask", "#!/bin/sh\n", 0755);
  EXPECT_THAT(check(), IsEmpty());
  mode("ask", 0775);
  EXPECT_THAT(check(), ElementsAre(finding("error", "may be written by others", "chmod go-w")));
  mode("ask", 0644);
  EXPECT_THAT(check(), ElementsAre(finding("error", "cannot be executed", "chmod 0755")));
}

TEST_F(ConfigCheck, Fault165_AGraceOfNothingIsNamed) {
  configure("rekey: {grace: 0s}\n");
  EXPECT_THAT(check(), Contains(finding("warning", "rekey.grace is 0s", "remove it")));
  configure("rekey: {keys: {releases: {grace: 0s}}}\n");
  EXPECT_THAT(check(), Contains(finding("warning", "rekey.keys.releases.grace", "remove it")));
  configure("rekey: {grace: 2d}\n");
  EXPECT_THAT(check(), Not(Contains(finding("warning", "grace", ""))));
}

}  // namespace
}  // namespace keyagent::config
