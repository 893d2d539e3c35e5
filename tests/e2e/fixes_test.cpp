// SPDX-License-Identifier: Apache-2.0
// Each finding of `keyagent doctor` that a command fixes: brought about with a real token and a
// real agent, fixed by exactly what is printed, and gone (tests/FIXES.md).

#include "tests/e2e/fixes.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

std::string module_of_softhsm2() {
  for (const char* path :
       {"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"}) {
    if (std::filesystem::exists(path)) return path;
  }
  throw std::runtime_error("softhsm2 is not installed");
}

class FixesTest : public testing::Test {
 protected:
  Json make(const std::string& words) { return host_.json("key create " + words); }
  void restart() {
    ASSERT_EQ(host_.stop(), 0) << host_.story();
    host_.start();
    ASSERT_TRUE(host_.serving()) << host_.story();
  }
  // As another administrator's tool does it, beside the running agent.
  void delete_private(const std::string& cka_id) {
    run_command(Host::as_agent() + "env SOFTHSM2_CONF=" + host_.hsm.conf().string() +
                " TOKEN_PIN=" + host_.hsm.pin() + " pkcs11-tool --module " + module_of_softhsm2() +
                " --token-label " + host_.hsm.label() +
                " --login --pin env:TOKEN_PIN --delete-object --type privkey --id " + cka_id);
  }
  std::string tokens() const { return (host_.folder() / "tokens").string(); }
  std::string shown(const std::string& kid) {
    const Json status = host_.json("status");
    for (const auto& key : status.at("keys"))
      if (key.at("kid") == kid) return key.at("shown");
    return "not there";
  }
  void seal_three(const std::string& key) {
    std::filesystem::create_directory(host_.file("sealed"));
    host_.write("text", "a secret");
    for (const char* name : {"a", "b", "c"})
      ASSERT_EQ(host_.keyagent("seal text --key " + key + " -o sealed/" + name).status, 0);
    ASSERT_EQ(host_.keyagent("census scan sealed").status, 0);
  }

  Host host_;
  Fixes fixes_{host_};
};

// Sealed data names it, which nothing can open anymore: a census does not keep it.
TEST_F(FixesTest, Fix_KeyLost_IsDestroyedThoughSealedDataNameIt) {
  host_.start();
  const auto key = make("credentials --purpose transport --algorithm ec-p256");
  make("other --purpose sign");
  const std::string kid = key.at("kid");
  seal_three("credentials");
  EXPECT_THAT(host_.keyagent("key destroy --yes -- " + kid).output,
              HasSubstr("3 sealed envelopes name it"));
  delete_private(key.at("cka_id"));
  EXPECT_EQ(host_.keyagent("open sealed/a").status, 4);
  EXPECT_EQ(shown(kid), "lost");
  EXPECT_THAT(host_.keyagent("status").output, HasSubstr("credentials (transport, ec-p256, lost"));
  ASSERT_TRUE(fixes_.reports("key-lost"));
  EXPECT_THAT(fixes_.doctor(), HasSubstr("3 sealed envelopes that name it cannot be opened"));
  EXPECT_EQ(shown(kid), "lost");
  fixes_.expect_fixed("key-lost", {}, kid);
  EXPECT_EQ(host_.json("doctor").at("exit"), 0);
}

TEST_F(FixesTest, Fix_KeyLost_IsDestroyedInItsDrainPeriod) {
  host_.start();
  const auto old = make("credentials --purpose transport --algorithm ec-p256");
  ASSERT_EQ(host_.keyagent("rekey credentials --wait --timeout 60").status, 0);
  const std::string kid = old.at("kid");
  EXPECT_THAT(host_.keyagent("key destroy --yes -- " + kid).output, HasSubstr("drain period"));
  delete_private(old.at("cka_id"));
  restart();
  fixes_.expect_fixed("key-lost", {}, kid);
}

// All its keys are away: no census is worth less for that.
TEST_F(FixesTest, ATokenWithoutItsKeysIsNoReasonToDestroyOneThatSealedDataName) {
  host_.start();
  const std::string kid = make("credentials --purpose transport --algorithm ec-p256").at("kid");
  seal_three("credentials");
  ASSERT_EQ(host_.stop(), 0);
  host_.shell("mkdir away; for token in " + tokens() +
              "/*; do for file in $token/*.object; do case $file in */token.object) ;; *) mv $file "
              "away;; esac; done; done");
  host_.start();
  ASSERT_TRUE(fixes_.reports("token-lost"));
  EXPECT_THAT(host_.keyagent("key destroy --yes -- " + kid).output,
              HasSubstr("3 sealed envelopes name it"));
  EXPECT_FALSE(fixes_.find("key-lost"));
}

// The next comparison decides, and it ends what a use reported: no further use is needed.
TEST_F(FixesTest, Fix_KeyMissed_EndsWhenTheFilesAreBackWithoutAnotherUse) {
  host_.start();
  const auto key = make("credentials --purpose transport --algorithm ec-p256");
  make("other --purpose sign");
  seal_three("credentials");
  ASSERT_EQ(host_.stop(), 0);
  host_.shell("cp -a " + tokens() + " kept");
  host_.start();
  delete_private(key.at("cka_id"));
  EXPECT_EQ(host_.keyagent("open sealed/a").status, 4);
  ASSERT_TRUE(wait_until([&] { return fixes_.find("key-missed") || fixes_.find("key-lost"); }));
  host_.shell("cp -a kept/. " + tokens());
  fixes_.run("keyagent doctor >/dev/null || true");
  EXPECT_TRUE(wait_until([&] { return !fixes_.find("key-missed") && !fixes_.find("key-lost"); },
                         std::chrono::seconds(90)))
      << fixes_.doctor();
  EXPECT_EQ(shown(key.at("kid")), "active");
  EXPECT_EQ(host_.keyagent("open sealed/a").output, "a secret");
}

TEST_F(FixesTest, Fix_KeyReturned_IsDestroyedAgain) {
  host_.start();
  const std::string kid = make("old --purpose sign").at("kid");
  ASSERT_EQ(host_.stop(), 0);
  host_.shell("cp -a " + tokens() + " kept");
  host_.start();
  ASSERT_EQ(host_.keyagent("key destroy old --yes").status, 0);
  ASSERT_EQ(host_.stop(), 0);
  host_.shell("rm -rf " + tokens() + " && cp -a kept " + tokens());
  host_.start();
  fixes_.expect_fixed("key-returned", {}, kid);
}

TEST_F(FixesTest, Fix_KeySuspended_Fix_KeyRevoked) {
  host_.start();
  const std::string kid = make("releases --purpose sign").at("kid");
  ASSERT_EQ(host_.keyagent("key suspend releases").status, 0);
  fixes_.expect_fixed("key-suspended");
  EXPECT_EQ(host_.keyagent("key revoke releases").status, 3) << "not without its kid";
  EXPECT_EQ(shown(kid), "active");
  fixes_.run("keyagent key revoke releases", {}, kid);
  EXPECT_EQ(shown(kid), "compromised");
  fixes_.expect_fixed("key-revoked");
  host_.write("text", "x");
  EXPECT_EQ(host_.keyagent("sign text --key releases -o signature").status, 0);
}

TEST_F(FixesTest, Fix_RekeyWaits_IsAborted) {
  host_.write("hook", "#!/bin/sh\nexit 75\n");
  host_.shell("install -m 0755 hook " + (host_.folder() / "hook").string());
  host_.extra = "rekey:\n  hook: " + (host_.folder() / "hook").string() + "\n";
  host_.start();
  make("releases --purpose sign");
  ASSERT_EQ(host_.keyagent("rekey releases").status, 0);
  fixes_.expect_fixed("rekey-waits");
}

TEST_F(FixesTest, Fix_WrongSignature_IsResumedWhenTheTokenSignsRightAgain) {
  host_.shimmed = true;
  host_.start();
  make("releases --purpose sign --algorithm ed25519");
  host_.write("text", "x");
  host_.set_faults("C_Sign:n=1:flip");
  EXPECT_EQ(host_.keyagent("sign text --key releases -o signature").status, 6);
  fixes_.expect_fixed("wrong-signature");
  EXPECT_EQ(host_.keyagent("sign text --key releases -o signature").status, 0);
}

TEST_F(FixesTest, Fix_KeyUntyped_IsNarrowed) {
  host_.start();
  host_.AgentProcess::write("policy.yml",
                            host_.policy +
                                "  - name: offers\n    allow: [import, sign]\n    keys: "
                                "[exchange, partner]\n    who: {user: \"" +
                                std::to_string(::geteuid()) + "\"}\n",
                            0644);
  host_.shell("chown --reference=" + host_.state().string() + " " +
              (host_.folder() / "policy.yml").string());
  ASSERT_EQ(host_.keyagent("reload").status, 0);
  make("partner --purpose sign");
  make("exchange --purpose exchange");
  const auto offered = host_.keyagent("key offer --identity partner -o offer.json");
  ASSERT_EQ(offered.status, 0) << offered.output;
  fixes_.expect_fixed("key-untyped");
}

TEST_F(FixesTest, Fix_AuditHistory_IsAcceptedByAReload) {
  host_.start();
  make("releases --purpose sign");
  ASSERT_EQ(host_.keyagent("audit verify").status, 0);
  ASSERT_EQ(host_.stop(), 0);
  const auto log = (host_.state() / "audit/audit.log").string();
  host_.shell("sed -i '$d' " + log + " && sed -i '$d' " + log + " && rm -f " +
              (host_.state() / "audit/checkpoint.json").string());
  host_.start();
  fixes_.expect_fixed("audit-history");
}

// A byte of the token's copy of the newest checkpoint is wrong: the agent starts, and a reload ends
// it.
TEST_F(FixesTest, Fix_AuditHistory_ADamagedAnchorInTheTokenIsReplacedByAReload) {
  host_.start();
  make("releases --purpose sign");
  ASSERT_EQ(host_.keyagent("audit verify").status, 0);
  ASSERT_EQ(host_.stop(), 0);
  // The agent's data objects: the anchor is the one that was written last.
  host_.write("damage.py", R"(
import pathlib, struct, sys
def values(data):
    at = 8
    while at + 16 <= len(data):
        type_, kind = struct.unpack('>QQ', data[at:at + 16])
        at += 16
        if kind == 1: at += 1
        elif kind == 2: yield type_, at, 8; at += 8
        elif kind == 3:
            size, = struct.unpack('>Q', data[at:at + 8])
            yield type_, at + 8, size
            at += 8 + size
        else: return
found = []
for path in pathlib.Path(sys.argv[1]).rglob('*.object'):
    data = path.read_bytes()
    fields = {type_: (at, size) for type_, at, size in values(data)}
    if 0 in fields and data[fields[0][0]:fields[0][0] + 8] == bytes(8) and 0x11 in fields:
        found.append((path.stat().st_mtime_ns, path, data, fields[0x11]))
_, path, data, (at, size) = max(found)
with open(path, 'r+b') as file:
    file.seek(at + size - 1)
    file.write(bytes([data[at + size - 1] ^ 0x55]))
print(len(found))
)");
  host_.shell("python3 damage.py " + tokens());
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  ASSERT_TRUE(fixes_.reports("audit-history"));
  EXPECT_THAT(fixes_.doctor(), HasSubstr("audit-anchor"));
  host_.write("text", "x");
  EXPECT_EQ(host_.keyagent("sign text --key releases -o signature").status, 0);
  fixes_.expect_fixed("audit-history");
  restart();
  EXPECT_EQ(host_.json("doctor").at("exit"), 0) << fixes_.doctor();
}

TEST_F(FixesTest, Fix_StateReadOnly_IsMadeWritable) {
  host_.extra = "audit:\n  folder: " + (host_.folder() / "audit").string() + "\n";
  host_.shell("install -d -m 0700 " + (host_.folder() / "audit").string());
  host_.start();
  host_.shell("chmod u-w " + host_.state().string());
  fixes_.expect_fixed("state-read-only");
}

TEST_F(FixesTest, Fix_CallerPaused_IsForgivenByAReload) {
  host_.extra = "limits: {failures-per-key-per-day: 5}\n";
  host_.start();
  make("credentials --purpose transport --algorithm ec-p256");
  host_.write("text", "a secret");
  ASSERT_EQ(host_.keyagent("seal text --key credentials -o sealed").status, 0);
  host_.shell("sed 's/.\\{6\\}$/AAAAAA/' sealed >damaged");
  for (int i = 0; i < 6; ++i) host_.keyagent("open damaged");
  ASSERT_NE(host_.keyagent("open sealed").output, "a secret");
  fixes_.expect_fixed("caller-paused");
  EXPECT_EQ(host_.keyagent("open sealed").output, "a secret");
}

TEST_F(FixesTest, Fix_SofthsmConfMissing_IsWrittenAgain) {
  host_.start();
  make("releases --purpose sign");
  ASSERT_EQ(host_.stop(), 0);
  const auto conf = host_.hsm.conf();
  std::filesystem::rename(conf, conf.string() + ".away");
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  EXPECT_TRUE(fixes_.find("token-fault") || fixes_.find("token-absent")) << fixes_.doctor();
  fixes_.expect_fixed("softhsm-conf-missing", {{"FOLDER", tokens()}});
  host_.write("text", "x");
  EXPECT_TRUE(wait_until([&] {
    return host_.keyagent("sign text --key releases -o signature").status == 0;
  })) << fixes_.doctor();
  EXPECT_FALSE(fixes_.find("token-fault") || fixes_.find("token-absent"));
}

TEST_F(FixesTest, Fix_TokenObjectDamaged_IsDeletedAndTheAgentServesWithoutARestart) {
  host_.start();
  make("releases --purpose sign");
  ASSERT_EQ(host_.stop(), 0);
  host_.write("rubbish", "these are more letters than a number has");
  const std::string tool = Host::as_agent() + "env SOFTHSM2_CONF=" + host_.hsm.conf().string() +
                           " TOKEN_PIN=" + host_.hsm.pin() + " pkcs11-tool --pin env:TOKEN_PIN";
  host_.shell("chmod 0644 rubbish; chmod 0711 .; " + tool + " --module " + module_of_softhsm2() +
              " --token-label " + host_.hsm.label() +
              " --login --write-object rubbish --type data --private --label ledger-epoch "
              "--application-label keyagent");
  host_.start();
  ASSERT_TRUE(host_.serving()) << host_.story();
  ASSERT_TRUE(fixes_.reports("token-object-damaged"));
  EXPECT_THAT(fixes_.doctor(), HasSubstr("ledger-epoch"));
  const auto command = fixes_.command("token-object-damaged");
  // One object at a time.
  for (int i = 0; i < 2 && fixes_.find("token-object-damaged"); ++i) {
    fixes_.run(command, {{"pkcs11-tool", tool},
                         {"MODULE", module_of_softhsm2()},
                         {"LABEL", host_.hsm.label()},
                         {"OBJECT", "ledger-epoch"}});
    wait_until([&] { return !fixes_.find("token-object-damaged"); }, std::chrono::seconds(5));
  }
  EXPECT_TRUE(fixes_.is_fixed("token-object-damaged"));
  host_.write("text", "x");
  EXPECT_EQ(host_.keyagent("sign text --key releases -o signature").status, 0);
}

// The token has the PIN again that it refused: the agent cannot know that.
TEST_F(FixesTest, Fix_PinRefused_TheRecordedPinIsTriedOnceMoreWhenItsFileIsRemoved) {
  host_.start();
  make("releases --purpose sign");
  ASSERT_EQ(host_.stop(), 0);
  const auto change_pin = [&](const std::string& from, const std::string& to) {
    host_.shell(Host::as_agent() + "env SOFTHSM2_CONF=" + host_.hsm.conf().string() +
                " OLD=" + from + " NEW=" + to + " pkcs11-tool --module " + module_of_softhsm2() +
                " --token-label " + host_.hsm.label() +
                " --login --pin env:OLD --change-pin --new-pin env:NEW");
  };
  change_pin(host_.hsm.pin(), "87654321");
  host_.start();
  ASSERT_TRUE(fixes_.reports("pin-refused"));
  EXPECT_THAT(fixes_.doctor(), HasSubstr((host_.state() / "refused-pin").string()));
  change_pin("87654321", host_.hsm.pin());
  restart();
  ASSERT_TRUE(fixes_.reports("pin-refused")) << "still the PIN that was refused";
  fixes_.expect_fixed("pin-refused");
  host_.write("text", "x");
  EXPECT_EQ(host_.keyagent("sign text --key releases -o signature").status, 0);
}

// After a rekey the new key has none.
TEST_F(FixesTest, Fix_CertificateDue_AnotherOneIsInstalled) {
  host_.start();
  make("web --purpose auth");
  host_.shell(
      "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 30 "
      "2>/dev/null");
  const auto certify = [&](const std::string& when) {
    const auto request =
        host_.keyagent("key csr web --subject /CN=localhost --san DNS:localhost -o web.csr");
    ASSERT_EQ(request.status, 0) << request.output;
    host_.shell(
        "echo subjectAltName=DNS:localhost >ext; echo extendedKeyUsage=serverAuth >>ext; " +
        std::string("openssl x509 -req -in web.csr -CA ca.pem -CAkey ca.key -CAcreateserial ") +
        when + " -extfile ext -out web.pem 2>/dev/null");
  };
  certify("-days 90");
  ASSERT_EQ(host_.keyagent("key certificate install web web.pem").status, 0);
  ASSERT_EQ(host_.keyagent("rekey web --wait --timeout 60").status, 0);
  ASSERT_TRUE(fixes_.reports("certificate-due"));
  certify("-days 90");
  fixes_.expect_fixed("certificate-due", {{"FILE", "web.pem"}});
}

TEST_F(FixesTest, Fix_AgentAway_IsStarted) {
  host_.start();
  ASSERT_EQ(host_.stop(), 0);
  const auto config = (host_.folder() / "keyagentd.yml").string();
  const auto away = fixes_.find("agent-away");
  ASSERT_TRUE(away);
  const std::string start = away->at("commands").at(1);
  EXPECT_EQ(start, "keyagentd --config FILE");
  // In the background, as its user.
  host_.shell("echo 'exec " + start.substr(0, start.find("FILE")) + config + "' >start");
  host_.shell("chmod 0711 .; PATH=\"$PWD/bin:$PATH\" " + Host::as_agent() +
              "sh start >start.log 2>&1 & echo $! >pid");
  EXPECT_TRUE(fixes_.is_fixed("agent-away"));
  host_.shell("kill $(cat pid)");
}

// --- the configuration

struct Mode {
  const char* id;
  const char* file;
  const char* harm;  // the shell's words before the file
};

class FixesOfModes : public FixesTest, public testing::WithParamInterface<Mode> {};

TEST_P(FixesOfModes, Fix_FileMode_Fix_FileOwner_Fix_FolderPrivate_Fix_PinFileMode) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may give files away";
  host_.start();
  ASSERT_EQ(host_.json("doctor").at("exit"), 0) << fixes_.doctor();
  host_.shell(std::string(GetParam().harm) + " " + (host_.folder() / GetParam().file).string());
  fixes_.expect_fixed(GetParam().id);
  EXPECT_EQ(host_.json("doctor").at("exit"), 0) << fixes_.doctor();
}

INSTANTIATE_TEST_SUITE_P(Fixes, FixesOfModes,
                         testing::Values(Mode{"file-mode", "policy.yml", "chmod go+w"},
                                         Mode{"file-owner", "policy.yml", "chown 61191"},
                                         Mode{"folder-private", "state", "chmod 0755"},
                                         Mode{"pin-file-mode", "pin", "chmod 0444"}));

TEST_F(FixesTest, Fix_PinFileMissing_Fix_PinFileForm_AreWrittenAgain) {
  host_.start();
  const auto pin = host_.folder() / "pin";
  for (const char* id : {"pin-file-missing", "pin-file-form"}) {
    std::filesystem::remove(pin);
    if (std::string(id) == "pin-file-form") host_.AgentProcess::write("pin", "1234\n5678\n", 0400);
    host_.shell("if [ -e " + pin.string() + " ]; then chown --reference=" + host_.state().string() +
                " " + pin.string() + "; fi");
    const auto offline = fixes_.find(id);
    ASSERT_TRUE(offline) << id << fixes_.doctor();
    const std::string command = offline->at("commands").at(0);
    host_.write("new-pin", host_.hsm.pin() + "\n");
    host_.shell(command + " <new-pin && chown --reference=" + host_.state().string() + " " +
                pin.string());
    EXPECT_TRUE(fixes_.is_fixed(id));
    EXPECT_FALSE(fixes_.find("pin-file-missing"));
  }
  restart();
  EXPECT_EQ(host_.json("doctor").at("exit"), 0);
}

TEST_F(FixesTest, Fix_ProgramMode_IsMadeExecutable) {
  const auto hook = (host_.folder() / "hook").string();
  host_.write("hook", "#!/bin/sh\nexit 0\n");
  host_.shell("install -m 0755 hook " + hook);
  host_.extra = "rekey:\n  hook: " + hook + "\n";
  host_.start();
  host_.shell("chmod 0644 " + hook);
  fixes_.expect_fixed("program-mode");
}

}  // namespace
}  // namespace keyagent::test
