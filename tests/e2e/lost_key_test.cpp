// SPDX-License-Identifier: Apache-2.0
// R13 and R15: what is gone from under a running agent, and what came back from a backup.

#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

std::string module() {
  for (const char* path :
       {"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"}) {
    if (std::filesystem::exists(path)) return path;
  }
  throw std::runtime_error("softhsm2 is not installed");
}

// As another administrator's tool does it, beside the running agent.
void delete_private_object(const Host& host, const std::string& cka_id) {
  run_command(Host::as_agent() + "env SOFTHSM2_CONF=" + host.hsm.conf().string() +
              " TOKEN_PIN=" + host.hsm.pin() + " pkcs11-tool --module " + module() +
              " --token-label " + host.hsm.label() +
              " --login --pin env:TOKEN_PIN --delete-object --type privkey --id " + cka_id);
}

void seal(const Host& host, const std::string& key) {
  host.write("text", "a secret");
  ASSERT_EQ(host.keyagent("seal text --key " + key + " -o sealed").status, 0);
  ASSERT_EQ(host.keyagent("open sealed").output, "a secret");
}

TEST(LostKey, R13_DeletedObjectIsNamedByItsUseAndByDoctor) {
  Host host;
  host.start();
  const auto key = host.json("key create credentials --purpose transport --algorithm rsa-2048");
  const std::string kid = key.at("kid");
  seal(host, "credentials");
  delete_private_object(host, key.at("cka_id"));
  const auto used = host.keyagent("open sealed");
  EXPECT_THAT(used.output, HasSubstr("KEY_NOT_PRESENT kid=" + kid));
  EXPECT_EQ(used.status, 4) << used.output;
  const auto doctor = host.json("doctor", 4);
  EXPECT_THAT(doctor.dump(), HasSubstr(kid));
  EXPECT_THAT(doctor.dump(), HasSubstr("credentials"));
  EXPECT_THAT(doctor.dump(), HasSubstr("KEY_LOST"));
  host.stop();
  host.start();
  EXPECT_THAT(host.json("doctor", 4).dump(), HasSubstr(kid)) << "and so at the next start";
  const auto cured = host.keyagent("key destroy " + kid + " --yes");
  EXPECT_EQ(cured.status, 0) << "the fix: " << cured.output;
  EXPECT_EQ(host.json("doctor").at("exit"), 0);
}

TEST(LostKey, R13_AThousandUsesOfALostKeyMakeOneErrorLineAMinute) {
  Host host;
  host.start();
  const auto key = host.json("key create credentials --purpose transport --algorithm rsa-2048");
  seal(host, "credentials");
  delete_private_object(host, key.at("cka_id"));
  const auto log_before = read_text(host.log()).size();
  const auto audit_before = host.audit().size();
  wire::Request request;
  request.mutable_open()->set_envelope(host.read("sealed"));
  auto connection = host.client();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) EXPECT_THROW(connection.call(request), Error);
  const auto minutes =
      std::chrono::duration_cast<std::chrono::minutes>(std::chrono::steady_clock::now() - begin);
  const auto log = read_text(host.log()).substr(log_before);
  EXPECT_LE(Host::count(log, "\n"), 1 + minutes.count()) << log;
  EXPECT_THAT(log, HasSubstr("kid=" + key.at("kid").get<std::string>()));
  EXPECT_LE(Host::count(host.audit().substr(audit_before), "\n"), 2 + minutes.count());
  EXPECT_EQ(host.keyagent("key destroy credentials --yes").status, 0);
  EXPECT_EQ(host.json("doctor").at("exit"), 0);
  // Only that key: the rest of the agent is as it was.
  host.json("key create signer --purpose sign");
  EXPECT_EQ(host.keyagent("sign text --key signer -o signature").status, 0);
}

TEST(LostKey, R13_Fault056_ADestroyedKeyThatABackupOfTheTokenBroughtBackIsNamedAndDestroyedAgain) {
  Host host;
  host.start();
  const std::string kid = host.json("key create old --purpose sign").at("kid");
  host.stop();
  const std::string tokens = (host.folder() / "tokens").string();
  run_command("cp -a " + tokens + " " + host.file("backup").string());
  host.start();
  ASSERT_EQ(host.keyagent("key destroy old --yes").status, 0);
  host.stop();
  run_command("rm -rf " + tokens + " && cp -a " + host.file("backup").string() + " " + tokens);
  host.start();
  const auto doctor = host.json("doctor");
  EXPECT_THAT(doctor.dump(), HasSubstr("GHOST"));
  EXPECT_THAT(doctor.dump(), HasSubstr("keyagent key destroy " + kid));
  EXPECT_EQ(host.keyagent("sign - --key " + kid, "printf x |").status, 3);
  EXPECT_EQ(host.keyagent("key destroy " + kid + " --yes").status, 0);
  EXPECT_THAT(host.json("doctor").dump(), testing::Not(HasSubstr("GHOST")));
  host.stop();
  host.start();
  EXPECT_THAT(host.json("doctor").dump(), testing::Not(HasSubstr("GHOST"))) << "it is gone";
}

TEST(LostKey, R15_YesterdaysLedgerIsReportedAndNotObeyed) {
  Host host;
  host.start();
  host.json("key create credentials --purpose transport --algorithm ec-p256");
  seal(host, "credentials");
  host.stop();
  run_command("cp -a " + host.state().string() + " " + host.file("yesterday").string());
  host.start();
  host.json("key create later --purpose sign");
  host.stop();
  run_command("cp -a " + host.state().string() + " " + host.file("today").string());
  const auto restore = [&](const char* from) {
    run_command("rm -f " + host.state().string() + "/ledger.db* && cp -a " +
                host.file(from).string() + "/ledger.db* " + host.state().string());
  };
  restore("yesterday");
  host.start();
  ASSERT_TRUE(host.serving()) << read_text(host.log());
  const auto doctor = host.json("doctor", 6);
  EXPECT_THAT(doctor.dump(), HasSubstr("older than the token"));
  EXPECT_EQ(host.keyagent("open sealed").status, 6) << "no guess";
  EXPECT_EQ(host.keyagent("key create another --purpose sign").status, 6);
  EXPECT_EQ(host.keyagent("key destroy credentials --yes").status, 6);
  host.stop();
  restore("today");
  host.start();
  EXPECT_EQ(host.keyagent("open sealed").output, "a secret");
  EXPECT_EQ(host.json("key list").at("keys").size(), 3u) << "nothing was destroyed meanwhile";
  EXPECT_EQ(host.json("doctor").at("exit"), 0);
}

}  // namespace
}  // namespace keyagent::test
