// SPDX-License-Identifier: Apache-2.0
// R1, R5 and T4 as an administrator sees them.

#include <gmock/gmock.h>

#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// An account that no rule names; `nobody` is on every Debian.
constexpr const char* kAsNobody = "setpriv --reuid nobody --regid nogroup --clear-groups";

TEST(Access, R1_SecondStartHasTheSameKeyAndNoPrivateKeyIsInAFile) {
  Host host;
  host.start();
  const std::string kid = host.json("key create signer --purpose sign").at("kid");
  host.json("key create credentials --purpose transport --algorithm rsa-2048");
  host.stop();
  host.start();
  EXPECT_EQ(host.json("key create signer --purpose sign").at("kid"), kid);
  EXPECT_EQ(host.json("key list").at("keys").size(), 3u) << "and the audit key";
  const auto shown = host.json("key show signer --prove");
  EXPECT_EQ(shown.at("holds"), true);
  const auto& custody = shown.at("custody");
  for (const char* name :
       {"CKA_LOCAL", "CKA_SENSITIVE", "CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE"})
    EXPECT_EQ(custody.at(name).at("value"), "true") << name;
  for (const char* attempt : {"attempt to read the key out", "attempt to wrap the key out"})
    EXPECT_THAT(custody.at(attempt).at("value"), testing::StartsWith("refused: ")) << attempt;
  const auto found = try_command("grep -rlaE 'BEGIN ([A-Z]+ )*PRIVATE KEY' " +
                                 host.state().string() + " " + host.file("").string());
  EXPECT_EQ(found.status, 1) << found.output;
}

TEST(Access, R5_OtherUidIsRefusedWithOneAuditLineAndWhyNamesTheRule) {
  if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  Host host;
  host.policy +=
      "  - name: nobody-opens-payroll\n    deny: [open]\n    keys: [\"payroll*\"]\n"
      "    who: {user: [nobody]}\n"
      "  - name: nobody-opens-the-rest\n    allow: [open, public]\n"
      "    who: {user: [nobody]}\n";
  host.write("policy.yml", host.policy, 0644);
  host.start();
  host.json("key create payroll --purpose transport --algorithm ec-p256");
  host.json("key create newsletter --purpose transport --algorithm ec-p256");
  host.write("text", "a secret");
  for (const std::string name : {"payroll", "newsletter"}) {
    ASSERT_EQ(host.keyagent("seal text --key " + name + " -o " + name).status, 0);
  }
  // The caller's own files are not the point here: it reads from a pipe.
  const auto before = host.audit().size();
  const auto allowed = host.keyagent("open -", "cat newsletter |", kAsNobody);
  EXPECT_EQ(allowed.status, 0) << allowed.output;
  EXPECT_EQ(allowed.output, "a secret");
  const auto refused = host.keyagent("open -", "cat payroll |", kAsNobody);
  EXPECT_EQ(refused.status, 3);
  EXPECT_THAT(refused.output, HasSubstr("DENIED"));
  EXPECT_THAT(refused.output, Not(HasSubstr("a secret")));
  const auto since = host.audit().substr(before);
  EXPECT_EQ(Host::count(since, "\"what\":\"refused\""), 1) << since;
  EXPECT_THAT(since, HasSubstr("\"rule\":\"nobody-opens-payroll\""));
  const std::string uid = run_command("id -u nobody");
  const auto why = host.json("why open payroll --uid " + uid.substr(0, uid.find('\n')), 3);
  EXPECT_EQ(why.at("rule"), "nobody-opens-payroll");
  const auto own = host.keyagent("why open payroll", "", kAsNobody);
  EXPECT_EQ(own.status, 3);
  EXPECT_THAT(own.output, HasSubstr("nobody-opens-payroll"));
}

TEST(Access, R5_UidThatNoRuleNamesIsRefusedByTheDefaultRule) {
  if (::geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  Host host;
  host.start();
  host.json("key create payroll --purpose transport --algorithm ec-p256");
  host.write("text", "a secret");
  ASSERT_EQ(host.keyagent("seal text --key payroll -o sealed").status, 0);
  const auto before = host.audit().size();
  EXPECT_EQ(host.keyagent("open -", "cat sealed |", kAsNobody).status, 3);
  const auto since = host.audit().substr(before);
  EXPECT_EQ(Host::count(since, "\n"), 1) << since;
  EXPECT_THAT(since, HasSubstr("\"rule\":\"default\""));
  const auto why = host.keyagent("--json why open payroll", "", kAsNobody);
  EXPECT_EQ(Json::parse(why.output).at("rule"), "default");
}

struct Trap {
  const char* name;
  std::function<void(Host&)> set;
  const char* says;  // what the finding names
};

void PrintTo(const Trap& trap, std::ostream* out) {
  *out << trap.name;
}

void give_to_agent(const Host& host) {
  if (::geteuid() == 0)
    run_command("chown -hR " + std::to_string(Host::kUser) + " " + host.folder().string());
}

class ConfigTrap : public testing::TestWithParam<Trap> {};

TEST_P(ConfigTrap, T4_IsNamedByConfigCheck) {
  Host host;
  host.AgentProcess::write("profile.yml", host.profile(), 0644);
  host.AgentProcess::write("keyagentd.yml", host.config(), 0644);
  give_to_agent(host);
  const std::string check = "config check " + (host.folder() / "keyagentd.yml").string();
  const auto good = host.keyagent(check, "", Host::as_agent());
  EXPECT_EQ(good.status, 0) << good.output;
  GetParam().set(host);
  give_to_agent(host);
  const auto found = host.keyagent(check, "", Host::as_agent());
  EXPECT_EQ(found.status, 2) << found.output;
  EXPECT_THAT(found.output, HasSubstr(GetParam().says));
  EXPECT_THAT(found.output, Not(HasSubstr("4711-secret")));
}

void replace_config(Host& host, const std::string& from, const std::string& to) {
  auto text = host.config();
  const auto at = text.find(from);
  ASSERT_NE(at, text.npos) << text;
  host.AgentProcess::write("keyagentd.yml", text.replace(at, from.size(), to), 0644);
}

void replace_profile(Host& host, const std::string& from, const std::string& to) {
  auto text = host.profile();
  const auto at = text.find(from);
  ASSERT_NE(at, text.npos) << text;
  host.AgentProcess::write("profile.yml", text.replace(at, from.size(), to), 0644);
}

void chmod(const std::filesystem::path& path, unsigned mode) {
  std::filesystem::permissions(path, std::filesystem::perms(mode));
}

const Trap kTraps[] = {
    {"PinFileThatOthersMayRead", [](Host& host) { chmod(host.folder() / "pin", 0644); },
     "chmod 0400"},
    {"EmptyPinFile", [](Host& host) { host.AgentProcess::write("pin", "", 0400); }, "is empty"},
    {"PinFileThatIsALink",
     [](Host& host) {
       std::filesystem::rename(host.folder() / "pin", host.folder() / "other");
       std::filesystem::create_symlink(host.folder() / "other", host.folder() / "pin");
     },
     "not a regular file"},
    {"PinInTheUri",
     [](Host& host) { replace_config(host, ";serial=", "?pin-value=4711-secret&x-serial="); },
     "remove 'pin-value'"},
    {"PinInTheFile",
     [](Host& host) { replace_config(host, "    file: ", "    value: 4711-secret\n    file: "); },
     "mode 0400"},
    {"PinFromTheEnvironment",
     [](Host& host) { replace_config(host, "    file: ", "    env: PIN\n    file: "); },
     "must not be in the environment"},
    {"TwoPinSources",
     [](Host& host) { replace_config(host, "    file: ", "    prompt: true\n    file: "); },
     "exactly one"},
    {"ModulePathInTheUri",
     [](Host& host) { replace_config(host, ";serial=", "?module-path=/tmp/x.so&x-serial="); },
     "module-path"},
    {"UnknownField", [](Host& host) { replace_config(host, "socket:\n", "sockets: 1\nsocket:\n"); },
     "sockets"},
    {"FieldTwice",
     [](Host& host) { replace_config(host, "agent-id: test\n", "agent-id: test\nagent-id: b\n"); },
     "agent-id"},
    {"ConfigurationThatOthersMayWrite",
     [](Host& host) { chmod(host.folder() / "keyagentd.yml", 0666); }, "chmod go-w"},
    {"PolicyThatOthersMayWrite", [](Host& host) { chmod(host.folder() / "policy.yml", 0666); },
     "policy.yml"},
    {"PolicyThatIsNotThere",
     [](Host& host) { std::filesystem::remove(host.folder() / "policy.yml"); },
     "the policy does not exist"},
    {"PolicyWithATypo",
     [](Host& host) {
       host.AgentProcess::write("policy.yml", "rules:\n  - name: x\n    alow: [open]\n", 0644);
     },
     "policy.yml:"},
    {"StateFolderOpenToOthers",
     [](Host& host) {
       std::filesystem::create_directory(host.state());
       chmod(host.state(), 0755);
     },
     "chmod 0700"},
    {"SocketFolderThatOthersMayWrite", [](Host& host) { chmod(host.folder() / "run", 0777); },
     "the socket's folder"},
    {"ModuleThatOthersMayWrite",
     [](Host& host) {
       host.AgentProcess::write("module.so", "", 0666);
       replace_config(host, "socket:\n",
                      "  module: " + (host.folder() / "module.so").string() + "\nsocket:\n");
     },
     "the PKCS#11 module"},
    {"ModuleThatIsNotThere",
     [](Host& host) {
       replace_config(host, "socket:\n", "  module: /nonexistent/m.so\nsocket:\n");
     },
     "/nonexistent/m.so"},
    // MISSION.md X14: only authenticated wrapping exists.
    {"WrappingByAesCbc",
     [](Host& host) {
       replace_profile(host, "aes-kwp-mechanism: 0x210A", "aes-kwp-mechanism: 0x1085");
     },
     "wraps as in RFC 5649"},
    {"WrappingNamedAesCbc",
     [](Host& host) {
       replace_profile(host, "aes-kwp-mechanism: 0x210A", "aes-kwp-mechanism: aes-cbc");
     },
     "wraps as in RFC 5649"},
    {"UnknownGroup",
     [](Host& host) {
       replace_config(host, "socket:\n", "socket:\n  group: no-such-group-here\n");
     },
     "groupadd"},
    {"RelativePath",
     [](Host& host) { replace_config(host, "socket:\n  path: /", "socket:\n  path: "); },
     "absolute path"},
};
INSTANTIATE_TEST_SUITE_P(All, ConfigTrap, testing::ValuesIn(kTraps),
                         [](const auto& trap) { return trap.param.name; });

}  // namespace
}  // namespace keyagent::test
