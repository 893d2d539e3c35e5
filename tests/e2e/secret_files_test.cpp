// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 176: PIN, password and token files as editors leave them. Either they work, or the
// fault is named before the token is asked: an HSM counts each try.

#include <gmock/gmock.h>

#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Form {
  const char *name, *before, *behind, *fault;  // fault: nullptr where it works
};
const Form kForms[] = {{"Bare", "", "", nullptr},
                       {"LineFeed", "", "\n", nullptr},
                       {"CarriageReturn", "", "\r\n", nullptr},
                       {"TwoLineFeeds", "", "\n\n", "line end"},
                       {"ByteOrderMark", "\xef\xbb\xbf", "\n", "byte order mark"},
                       {"Blank", "", " \n", "white space"},
                       {"Tab", "", "\t", "white space"},
                       {"Utf16", "\xff\xfe", "\n", "UTF-16"},
                       {"Escape", "\x1b[", "\n", "control character"}};

TEST(SecretFiles, Fault176_APinFileWorksOrIsNamedBeforeATryIsSpent) {
  Host host;
  host.shimmed = true;
  for (const auto& form : kForms) {
    host.AgentProcess::write("pin", form.before + host.hsm.pin() + form.behind, 0400);
    std::filesystem::remove(host.folder() / "calls");
    std::filesystem::remove(host.log());
    host.start();
    const auto check =
        host.keyagent("config check " + (host.folder() / "keyagentd.yml").string()).output;
    if (form.fault == nullptr) {
      EXPECT_EQ(host.json("status").at("token").at("state"), "up") << form.name << host.story();
      EXPECT_THAT(check, Not(HasSubstr("the PIN file"))) << form.name;
      EXPECT_THAT(host.calls(), HasSubstr("C_Login"));
      host.stop();
    } else {
      EXPECT_EQ(host.wait(), 2) << form.name << host.story();
      EXPECT_THAT(host.story(), HasSubstr(form.fault)) << form.name;
      EXPECT_THAT(check, HasSubstr(form.fault)) << form.name;
      EXPECT_FALSE(std::filesystem::exists(host.folder() / "calls") &&
                   host.calls().find("C_Login") != std::string::npos)
          << form.name << ": a try of the token was spent";
    }
  }
}

TEST(SecretFiles, Fault176_PinsOfTheCommandLineHaveTheSameRule) {
  Host host;
  host.write("profile.yml", host.profile());
  host.shell("cp " + host.hsm.conf().string() +
             " softhsm2.conf; sed -i 's#SOFTHSM2_CONF: .*#SOFTHSM2_CONF: " +
             host.file("softhsm2.conf").string() + "#' profile.yml; chmod 0644 profile.yml");
  const auto change = [&](const std::string& before, const std::string& after,
                          const std::string& pipe = {}) {
    return host.keyagent("token change-pin --profile " + host.file("profile.yml").string() +
                             " --state . --label " + host.hsm.label() + " --pin-source " + before +
                             " --new-pin-source " + after,
                         pipe);
  };
  const std::string file = "file:" + host.file("pin").string(),
                    other = "file:" + host.file("new").string();
  host.write("pin", host.hsm.pin());
  host.shell("printf 'another-pin-4711' > new; chmod 0400 pin new");
  for (const auto& form : kForms) {
    if (form.fault == nullptr) continue;
    host.shell("rm -f odd");
    host.write("odd", form.before + host.hsm.pin() + form.behind);
    host.shell("chmod 0400 odd");
    const auto said = change("file:" + host.file("odd").string(), other);
    EXPECT_EQ(said.status, 2) << form.name << said.output;
    EXPECT_THAT(said.output, HasSubstr(form.fault)) << form.name;
    EXPECT_THAT(said.output, Not(HasSubstr(host.hsm.pin())));
    EXPECT_EQ(change(file, "file:" + host.file("odd").string()).status, 2) << form.name;
  }
  // From a pipe with line ends of Windows, one secret a line.
  const auto piped =
      change("fd:0", "fd:0", "printf '" + host.hsm.pin() + "\\r\\nanother-pin-4711\\r\\n' |");
  EXPECT_EQ(piped.status, 0) << piped.output;
  EXPECT_EQ(change(other, file).status, 0) << "it was set without the carriage return";
}

TEST(SecretFiles, Fault176_AnEnrollmentTokenHasTheSameRule) {
  Host host;
  host.start();
  for (const auto& form : kForms) {
    host.shell("rm -f token");
    host.write("token", form.before + std::string("dG9rZW4tdG9rZW4tdG9rZW4") + form.behind);
    host.shell("chmod 0400 token");
    for (const std::string how : {"--token-file token", "--token - <token"}) {
      const auto said = host.keyagent("enroll https://127.0.0.1:1 " + how);
      EXPECT_NE(said.status, 0);
      if (form.fault != nullptr) EXPECT_EQ(said.status, 2) << form.name << said.output;
      EXPECT_EQ(said.output.find(form.fault == nullptr ? "enrollment token begins" : form.fault) ==
                    std::string::npos,
                form.fault == nullptr)
          << form.name << said.output;
    }
  }
}

}  // namespace
}  // namespace keyagent::test
