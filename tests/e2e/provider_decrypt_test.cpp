// SPDX-License-Identifier: Apache-2.0
// T12: programs that know only OpenSSL decrypt and derive secrets with the agent's transport keys
// through keyagent.so, where the policy allows it, and store a reference to a key without having
// it.

#include <gmock/gmock.h>

#include <set>

#include "tests/e2e/openssl_fixture.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kOaep = " -pkeyopt rsa_padding_mode:oaep";
const std::string kOaep256 = kOaep + " -pkeyopt rsa_oaep_md:sha256";

class ProviderDecrypt : public OpensslTest {
 protected:
  ProviderDecrypt() {
    // Nothing of "open": not to "closed", and not to the keys of other purposes.
    host_.policy +=
        "  - name: mail-program\n    allow: [decrypt, agree]\n    keys: [\"mail*\"]\n"
        "    who: {user: \"" +
        std::to_string(::geteuid()) + "\"}\n";
    host_.AgentProcess::write("policy.yml", host_.policy, 0644);
  }
  void SetUp() override {
    start_with_provider();
    host_.write("data", "what is sealed");
  }

  // What a refused command said.
  std::string refused(const std::string& line) const {
    const auto result = with_provider(line);
    EXPECT_NE(result.status, 0) << line;
    return result.output;
  }
  // A key, its public half as NAME.pub, and a reference to it as NAME.key.
  void create(const std::string& name, const std::string& purpose, const std::string& algorithm) {
    host_.json("key create " + name + " --purpose " + purpose + " --algorithm " + algorithm);
    ASSERT_EQ(host_.keyagent("key public " + name + " -o " + name + ".pub").status, 0);
    ASSERT_EQ(host_.keyagent("key reference " + name + " -o " + name + ".key").status, 0);
  }
  void encrypt(const std::string& name, const std::string& how) {
    host_.shell("openssl pkeyutl -encrypt -pubin -inkey " + name + ".pub" + how +
                " -in data -out sealed");
  }
  // NAME.pem: a certificate by an authority of the test's own.
  void certify(const std::string& name) {
    if (!std::filesystem::exists(host_.file("ca.pem")))
      host_.shell(
          "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key "
          "-out ca.pem -subj /CN=authority -days 30");
    host_.shell("openssl x509 -new -force_pubkey " + name +
                ".pub -CA ca.pem -CAkey ca.key -subj /CN=" + name + " -days 10 -out " + name +
                ".pem");
  }
};

TEST_F(ProviderDecrypt, T12_OpensslDecryptsOaepWithBothHashes) {
  create("mail", "transport", "rsa-2048");
  for (const std::string& how : {kOaep256, kOaep, kOaep + " -pkeyopt rsa_oaep_md:sha1",
                                 kOaep256 + " -pkeyopt rsa_mgf1_md:sha256"}) {
    encrypt("mail", how);
    for (const char* key : {"keyagent:mail", "mail.key", "'pkcs11:object=mail;type=private'"})
      run(std::string("openssl pkeyutl -decrypt -inkey ") + key + how +
          " -in sealed -out opened && cmp opened data");
  }
  run("openssl pkeyutl -encrypt -inkey keyagent:mail" + kOaep256 + " -in data -out sealed");
  run("openssl pkeyutl -decrypt -inkey keyagent:mail" + kOaep256 +
      " -in sealed -out opened && cmp opened data");
  EXPECT_THAT(host_.audit(), HasSubstr("\"detail\":\"RSA-OAEP-256\""));
  EXPECT_THAT(host_.audit(), HasSubstr("\"rule\":\"mail-program\""));
}

TEST_F(ProviderDecrypt, T12_OpensslDerivesTheSecretOfASoftwarePeer) {
  for (const std::string curve : {"256", "384"}) {
    create("mail" + curve, "transport", "ec-p" + curve);
    host_.shell("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-" + curve +
                " -out peer && openssl pkey -in peer -pubout -out peer.pub && openssl pkeyutl "
                "-derive -inkey peer -peerkey mail" +
                curve + ".pub -out theirs");
    for (const std::string& key : {"keyagent:mail" + curve, "mail" + curve + ".key"})
      run("openssl pkeyutl -derive -inkey " + key +
          " -peerkey peer.pub -out ours && cmp ours "
          "theirs");
    const std::string kdf =
        " -pkeyopt kdf-type:X963KDF -pkeyopt kdf-digest:SHA256 -pkeyopt kdf-outlen:40 -pkeyopt "
        "hexkdf-ukm:0102 -pkeyopt ecdh-cofactor-mode:1";
    run("openssl pkeyutl -derive -inkey peer -peerkey mail" + curve + ".pub" + kdf +
        " -out theirs && openssl pkeyutl -derive -inkey keyagent:mail" + curve +
        " -peerkey peer.pub" + kdf + " -out ours && cmp ours theirs && test $(wc -c < ours) = 40");
  }
  host_.shell(
      "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out other; openssl "
      "pkey -in other -pubout -out other.pub");
  EXPECT_THAT(refused("openssl pkeyutl -derive -inkey keyagent:mail256 -peerkey other.pub -out x"),
              Not(HasSubstr("No such file")));
}

TEST_F(ProviderDecrypt, T12_OpensslCmsOpensMessagesToRsaAndEcRecipients) {
  create("mail", "transport", "rsa-2048");
  create("mailec", "transport", "ec-p256");
  create("mailec384", "transport", "ec-p384");
  const std::string recipients[][2] = {
      {"mail", " -keyopt rsa_padding_mode:oaep"},
      {"mail", " -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"},
      {"mailec", ""},
      {"mailec", " -keyopt ecdh_kdf_md:sha256"},
      {"mailec384", " -keyopt ecdh_kdf_md:sha384"}};
  for (const auto& [name, how] : recipients) {
    certify(name);
    host_.shell("openssl cms -encrypt -binary -aes256 -in data -outform DER -out message -recip " +
                name + ".pem" + how);
    for (const std::string& key : {"keyagent:" + name, name + ".key"}) {
      run("openssl cms -decrypt -inform DER -in message -recip " + name + ".pem -inkey " + key +
          " -out opened && cmp opened data");
      run("openssl cms -decrypt -inform DER -in message -inkey " + key +
          " -out opened && cmp opened data");
    }
  }
}

TEST_F(ProviderDecrypt, Fault101_WithoutTheActionNothingIsDecryptedNorDerived) {
  create("closed", "transport", "rsa-2048");
  create("closedec", "transport", "ec-p256");
  encrypt("closed", kOaep256);
  EXPECT_THAT(refused("openssl pkeyutl -decrypt -inkey keyagent:closed" + kOaep256 +
                      " -in sealed -out opened"),
              HasSubstr("DENIED"));
  host_.shell(
      "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out peer; openssl "
      "pkey -in peer -pubout -out peer.pub");
  EXPECT_THAT(
      refused("openssl pkeyutl -derive -inkey keyagent:closedec -peerkey peer.pub -out opened"),
      HasSubstr("may not agree"));
  EXPECT_FALSE(std::filesystem::exists(host_.file("opened")) && !host_.read("opened").empty());
  EXPECT_EQ(host_.json("why open closed").at("allowed"), true);
  EXPECT_EQ(host_.json("why decrypt closed", 3).at("rule"), "default");
  EXPECT_EQ(host_.json("why agree closedec", 3).at("rule"), "default");
}

TEST_F(ProviderDecrypt, Fault101_Pkcs1PaddingIsRefusedWithItsReason) {
  create("mail", "transport", "rsa-2048");
  encrypt("mail", "");
  for (const std::string how :
       {"", " -pkeyopt rsa_padding_mode:pkcs1", " -pkeyopt rsa_padding_mode:none"}) {
    EXPECT_THAT(
        refused("openssl pkeyutl -decrypt -inkey keyagent:mail" + how + " -in sealed -out opened"),
        HasSubstr("decrypt RSA-OAEP only"))
        << how;
  }
  EXPECT_THAT(refused("openssl pkeyutl -decrypt -inkey keyagent:mail" + kOaep +
                      " -pkeyopt rsa_oaep_md:sha512 -in sealed -out opened"),
              HasSubstr("SHA-256 or SHA-1"));
  EXPECT_THAT(refused("openssl pkeyutl -decrypt -inkey keyagent:mail" + kOaep256 +
                      " -pkeyopt rsa_mgf1_md:sha1 -in sealed -out opened"),
              HasSubstr("the MGF1 digest of RSA-OAEP"));
  EXPECT_THAT(refused("openssl pkeyutl -decrypt -inkey keyagent:mail" + kOaep256 +
                      " -pkeyopt rsa_oaep_label:00ff -in sealed -out opened"),
              HasSubstr("without a label"));
  certify("mail");
  host_.shell("openssl cms -encrypt -binary -aes256 -in data -outform DER -out message mail.pem");
  refused("openssl cms -decrypt -inform DER -in message -inkey keyagent:mail -out opened");
  EXPECT_EQ(Host::count(host_.audit(), "\"what\":\"decrypt\""), 0) << "the agent was not asked";
}

TEST_F(ProviderDecrypt, Fault098_SignAndAuthKeysDecryptAndDeriveNothing) {
  create("mailsign", "sign", "rsa-2048");
  create("mailauth", "auth", "rsa-2048");
  create("mailauthec", "auth", "ec-p256");
  for (const std::string name : {"mailsign", "mailauth"}) {
    encrypt(name, kOaep256);
    EXPECT_THAT(refused("openssl pkeyutl -decrypt -inkey keyagent:" + name + kOaep256 +
                        " -in sealed -out opened"),
                HasSubstr("DENIED: key " + name + " is for"));
  }
  EXPECT_THAT(refused("openssl pkeyutl -derive -inkey keyagent:mailauthec -peerkey mailauthec.pub "
                      "-out opened"),
              HasSubstr("DENIED: key mailauthec is for auth"));
}

TEST_F(ProviderDecrypt, Fault103_EveryDecryptionFailureGivesTheSameError) {
  create("mail", "transport", "rsa-2048");
  encrypt("mail", kOaep256);
  host_.shell(
      "cp sealed good; python3 -c 'import sys; b=bytearray(open(\"good\",\"rb\").read()); "
      "b[100]^=1; open(\"flipped\",\"wb\").write(b); open(\"ones\",\"wb\").write(b\"\\xff\"*256); "
      "open(\"zeros\",\"wb\").write(bytes(256)); open(\"short\",\"wb\").write(b[:200])'");
  encrypt("mail", kOaep);
  std::set<std::string> answers;
  for (const std::string file : {"flipped", "ones", "zeros", "short", "sealed"}) {
    std::string text = refused("openssl pkeyutl -decrypt -inkey keyagent:mail" + kOaep256 +
                               " -in " + file + " -out opened");
    EXPECT_THAT(text, HasSubstr("INPUT: decryption failed"));
    answers.insert(text.substr(text.find(":error:")));
  }
  EXPECT_EQ(answers.size(), 1u) << testing::PrintToString(answers);
  run("openssl pkeyutl -decrypt -inkey keyagent:mail" + kOaep256 +
      " -in good -out opened && cmp opened data");
}

// --- a key, written down
// -------------------------------------------------------------------------------------------------

TEST_F(ProviderDecrypt, PublicHalvesAndTextsAreWrittenAndThePrivateHalfIsAReference) {
  create("mail", "transport", "rsa-2048");
  create("ec", "sign", "ec-p256");
  create("ed", "sign", "ed25519");
  for (const std::string name : {"mail", "ec", "ed"}) {
    run("openssl pkey -in keyagent:" + name + " -pubout -out written && openssl pkey -pubin -in " +
        name + ".pub -out plain && cmp written plain");
    // Each line of the public half as OpenSSL prints it for the public key is in the text.
    const auto text = with_provider("openssl pkey -in keyagent:" + name + " -text -noout").output;
    EXPECT_THAT(text, HasSubstr("kept by the agent: keyagent:" + name));
    const auto known =
        try_command("cd '" + host_.work.path().string() + "' && openssl pkey -pubin -in " + name +
                    ".pub -text -noout | grep '^    '")
            .output;
    EXPECT_THAT(text, HasSubstr(known)) << name;
    run("openssl pkey -in keyagent:" + name + " -out written.key && cmp written.key " + name +
        ".key");
    EXPECT_THAT(refused("openssl pkey -in keyagent:" + name + " -outform DER -out der"),
                HasSubstr("does not leave its token"));
    EXPECT_THAT(host_.read("written.key"), HasSubstr("PKCS#11 PROVIDER URI"));
  }
}

TEST_F(ProviderDecrypt, EveryOtherFormOfThePrivateHalfIsAReferenceOrNothing) {
  create("mail", "transport", "rsa-2048");
  create("ec", "sign", "ec-p256");
  for (const char* line : {"openssl pkey -in keyagent:ec -aes256 -passout pass:x",
                           "openssl rsa -in keyagent:mail", "openssl ec -in keyagent:ec"}) {
    const auto result = with_provider(line);
    EXPECT_EQ(result.status, 0) << line << "\n" << result.output;
    EXPECT_THAT(result.output, HasSubstr("BEGIN PKCS#11 PROVIDER URI")) << line;
    EXPECT_THAT(result.output, Not(HasSubstr("PRIVATE KEY-----"))) << line;
  }
  for (const char* line : {"openssl pkey -in keyagent:mail -traditional -out der",
                           "openssl rsa -in keyagent:mail -outform DER -out der",
                           "openssl ec -in keyagent:ec -outform DER -out der"}) {
    refused(line);
    EXPECT_TRUE(!std::filesystem::exists(host_.file("der")) || host_.read("der").empty()) << line;
  }
}

TEST_F(ProviderDecrypt, GenpkeyWritesAReferenceThatIsUsedAsAKeyFile) {
  const std::string genpkey =
      "openssl genpkey -propquery provider=keyagent -pkeyopt keyagent-name:";
  run(genpkey + "made -algorithm EC -pkeyopt group:P-384 -out made.key");
  run("openssl dgst -sha384 -sign made.key -out sig data");
  EXPECT_EQ(host_.json("key show made").at("algorithm"), "ec-p384");
  EXPECT_THAT(host_.read("made.key"), HasSubstr("PKCS#11 PROVIDER URI"));
  run(genpkey + "mailmade -algorithm RSA -pkeyopt keyagent-purpose:transport -out mailmade.key");
  run("openssl pkeyutl -encrypt -inkey mailmade.key" + kOaep256 + " -in data -out sealed");
  run("openssl pkeyutl -decrypt -inkey mailmade.key" + kOaep256 +
      " -in sealed -out opened && cmp opened data");
  EXPECT_THAT(refused(genpkey + "made2 -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out x"),
              HasSubstr("2048, 3072 or 4096"));
}

TEST_F(ProviderDecrypt, PkeyutlVerifiesWithTheKeyThatSigned) {
  create("ec", "sign", "ec-p256");
  create("rsa", "sign", "rsa-2048");
  create("ed", "sign", "ed25519");
  host_.write("data2", "something else");
  host_.shell("for i in '' 2; do openssl dgst -sha256 -binary data$i > digest$i; done");
  const std::string pss =
      " -pkeyopt digest:sha256 -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest";
  const std::string rows[][2] = {
      {"ec", " -pkeyopt digest:sha256"}, {"rsa", " -pkeyopt digest:sha256"}, {"rsa", pss}};
  for (const auto& [name, how] : rows) {
    run("openssl pkeyutl -sign -inkey keyagent:" + name + how + " -in digest -out sig");
    run("openssl pkeyutl -verify -inkey keyagent:" + name + how + " -in digest -sigfile sig");
    refused("openssl pkeyutl -verify -inkey keyagent:" + name + how + " -in digest2 -sigfile sig");
  }
  run("openssl pkeyutl -sign -rawin -inkey ed.key -in data -out sig");
  run("openssl pkeyutl -verify -rawin -inkey ed.key -in data -sigfile sig");
  refused("openssl pkeyutl -verify -rawin -inkey ed.key -in data2 -sigfile sig");
  for (const std::string name : {"ec", "rsa"}) {
    run("openssl dgst -sha256 -sign keyagent:" + name +
        " -out sig data && openssl dgst -sha256 "
        "-prverify keyagent:" +
        name + " -signature sig data");
    refused("openssl dgst -sha256 -prverify keyagent:" + name + " -signature sig data2");
  }
}

}  // namespace
}  // namespace keyagent::test
