// SPDX-License-Identifier: Apache-2.0
// R3 and R4 as an author and a user see them: others' tools seal, the agent opens through its
// socket, and opens nothing that was changed or whose key may not.

#include <gmock/gmock.h>
#include <unistd.h>

#include <set>

#include "agent/base/encoding.h"
#include "agent/keys/ledger.h"
#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kSecret = "correct horse battery staple";

class Envelopes : public testing::Test {
 protected:
  void start() {
    // Each changed envelope below is a failed one of its key.
    host_.extra = "limits:\n  failures-per-key-per-day: 100000\n";
    host_.start();
    ASSERT_TRUE(host_.serving()) << read_text(host_.log());
    host_.write("text", kSecret);
  }
  std::string create(const std::string& name, const std::string& how) {
    return host_.json("key create " + name + " --purpose transport " + how).at("kid");
  }
  void public_jwk(const std::string& name) {
    ASSERT_EQ(host_.keyagent("key public " + name + " --format jwk -o pub.jwk").status, 0);
  }
  // A certificate around the public key, made by a throw-away CA of the author's.
  void certificate(const std::string& name) {
    ASSERT_EQ(host_.keyagent("key public " + name + " -o pub.pem").status, 0);
    host_.shell(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out "
        "ca.pem -subj /CN=author -days 1 && openssl req -new -newkey rsa:2048 -nodes -keyout any "
        "-subj /CN=x -out any.csr && printf 'subjectKeyIdentifier=hash\\n' >ext && openssl x509 "
        "-req -in any.csr -CA ca.pem -CAkey ca.key -force_pubkey pub.pem -extfile ext -days 1 "
        "-out cert.pem");
  }
  std::string open(const std::string& file, int status = 0, const std::string& more = {}) {
    const auto result = host_.keyagent("open " + file + " " + more);
    EXPECT_EQ(result.status, status) << result.output;
    return result.output;
  }

  // Is this byte of a CMS message one of the recipient's subject key identifier?
  static bool names_recipient(const std::string& sealed, std::size_t at) {
    for (const std::string_view tag : {"\x80\x14", "\x04\x14"}) {
      const auto id = sealed.find(tag);
      if (sealed.front() == '0' && id != sealed.npos && at >= id + 2 && at < id + 22) return true;
    }
    return false;
  }
  // Every answer to an envelope of which one bit was changed, by exit status and text. The
  // envelope is opened with --key, as a script does that knows which key it means.
  std::set<std::pair<int, std::string>> answers_to_flips(const std::string& sealed,
                                                         std::size_t first, std::size_t last,
                                                         std::size_t step, const std::string& key) {
    std::set<std::pair<int, std::string>> answers;
    for (std::size_t at = first; at < last; at += step) {
      // How the author calls the key is not authenticated; with --key it does not matter.
      if (names_recipient(sealed, at)) continue;
      std::string changed = sealed;
      changed[at] = static_cast<char>(changed[at] ^ 1);
      host_.write("changed", changed);
      const auto result = host_.keyagent("open changed --key " + key);
      answers.insert({result.status, result.output});
      EXPECT_THAT(result.output, Not(HasSubstr(kSecret))) << "at byte " << at;
    }
    return answers;
  }

  // Header, encrypted key, IV, text and tag of a JWE, each with bits flipped in the decoded bytes.
  void expect_no_changed_jwe_opens(const std::string& key) {
    std::vector<std::string> parts(1);
    for (const char c : host_.read("sealed")) {
      if (c == '.') parts.emplace_back();
      if (c != '.' && c != '\n') parts.back() += c;
    }
    ASSERT_EQ(parts.size(), 5u);
    std::set<std::string> texts;
    for (std::size_t part = 0; part < parts.size(); ++part) {
      const auto bytes = from_base64url(parts[part]).value();
      const std::size_t step = part == 0 ? 5 : std::max<std::size_t>(1, bytes.size() / 4);
      for (std::size_t at = 0; at < bytes.size(); at += step) {
        Bytes changed = bytes;
        changed[at] ^= 1;
        auto all = parts;
        all[part] = to_base64url(changed);
        host_.write("changed", all[0] + "." + all[1] + "." + all[2] + "." + all[3] + "." + all[4]);
        const auto result = host_.keyagent("open changed --key " + key);
        // An unsupported algorithm in the header, which is not secret, is named.
        const bool named = part == 0 && result.status == 3;
        if (named) {
          EXPECT_THAT(result.output, HasSubstr("UNSUPPORTED"));
        } else {
          EXPECT_EQ(result.status, 6) << "part " << part << " byte " << at << result.output;
        }
        EXPECT_THAT(result.output, Not(HasSubstr(kSecret)));
        if (part > 0) texts.insert(result.output);
      }
    }
    EXPECT_EQ(texts.size(), 1u) << testing::PrintToString(texts);
  }

  Host host_;
};

TEST_F(Envelopes, R3_KeyWhoseStateForbidsItDecryptsNothing) {
  host_.shimmed = true;
  start();
  const std::string kid = create("credentials", "--algorithm rsa-2048");
  create("agreed", "--algorithm ec-p256");
  for (const std::string name : {"credentials", "agreed"}) {
    ASSERT_EQ(host_.keyagent("seal text --key " + name + " -o " + name + ".jwe").status, 0);
    EXPECT_EQ(open(name + ".jwe"), kSecret);
  }
  ASSERT_THAT(host_.calls(), HasSubstr("C_Decrypt")) << "the record sees decryptions";
  ASSERT_THAT(host_.calls(), HasSubstr("C_DeriveKey"));
  host_.stop();
  for (const auto state : {KeyState::kStaged, KeyState::kSuspended, KeyState::kCompromised}) {
    {
      keys::Ledger ledger(host_.state() / "ledger.db");
      for (auto record : ledger.load().keys) {
        if (record.purpose != Purpose::kTransport) continue;
        const auto before = std::exchange(record.state, state);
        ledger.record_states({{record, before}});
      }
    }
    host_.start();
    std::filesystem::remove(host_.folder() / "calls");
    for (const std::string name : {"credentials", "agreed"}) {
      const auto said = open(name + ".jwe", 3);
      EXPECT_THAT(said, HasSubstr("KEY_STATE")) << name_of(state);
      EXPECT_THAT(said, HasSubstr(name_of(state)));
    }
    EXPECT_THAT(host_.calls(), Not(HasSubstr("C_Decrypt"))) << name_of(state);
    EXPECT_THAT(host_.calls(), Not(HasSubstr("C_DeriveKey"))) << name_of(state);
    host_.stop();
  }
  host_.start();
  ASSERT_EQ(host_.keyagent("key destroy credentials --yes").status, 0);
  EXPECT_THAT(open("credentials.jwe", 3), HasSubstr("KEY_STATE"));
}

TEST_F(Envelopes, R4_WhatNpmJoseSealsOpensAndNoChangedByteDoes) {
  if (!program_there("node") || !program_there("npm"))
    GTEST_SKIP() << "node and npm are not installed";
  const std::string folder = KEYAGENT_INTEROP_BUILD;
  std::filesystem::create_directories(folder);
  for (const char* name : {"package.json", "package-lock.json", "jose.mjs"}) {
    // Whole at any time: other tests read it meanwhile.
    const std::string copy = folder + "/" + name + "." + std::to_string(::getpid());
    std::filesystem::copy_file(std::string(KEYAGENT_INTEROP_SOURCE) + "/" + name, copy,
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::rename(copy, folder + "/" + name);
  }
  // flock: test programs may start at the same time.
  if (try_command("cd '" + folder +
                  "' && flock .lock sh -c '[ -e node_modules/jose/package.json ] || npm ci "
                  "--ignore-scripts --no-audit --no-fund' >npm.log 2>&1")
          .status != 0)
    GTEST_SKIP() << "npm's jose cannot be installed (see " << folder << "/npm.log)";
  start();
  const std::vector<std::pair<std::string, std::string>> kinds{{"rsa-2048", "RSA-OAEP"},
                                                               {"rsa-2048", "RSA-OAEP-256"},
                                                               {"ec-p256", "ECDH-ES+A256KW"},
                                                               {"ec-p384", "ECDH-ES"}};
  int number = 0;
  // First: who has asked for so much that failed waits before a change.
  for (const auto& [algorithm, envelope] : kinds)
    create("k" + std::to_string(++number), "--algorithm " + algorithm + " --envelope " + envelope);
  number = 0;
  for (const auto& [algorithm, envelope] : kinds) {
    SCOPED_TRACE(algorithm + " " + envelope);
    const std::string name = "k" + std::to_string(++number);
    public_jwk(name);
    host_.shell("node '" + folder + "/jose.mjs' seal " + envelope + " A256GCM");
    EXPECT_EQ(open("sealed"), kSecret);
    if (number % 2 == 0) expect_no_changed_jwe_opens(name);
  }
}

TEST_F(Envelopes, R4_WhatTheJoseCommandSealsOpens) {
  if (!program_there("jose")) GTEST_SKIP() << "the jose command is not installed: apt install jose";
  start();
  const std::string kid = create("credentials", "--algorithm ec-p256 --envelope ECDH-ES+A256KW");
  public_jwk("credentials");
  host_.shell(
      R"(jose jwe enc -c -I text -k pub.jwk -o sealed -i '{"protected":{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":")" +
      kid + R"("}}')");
  EXPECT_EQ(open("sealed"), kSecret);
  expect_no_changed_jwe_opens("credentials");
}

TEST_F(Envelopes, R4_WhatOpensslCmsSealsOpensAndNoChangedByteDoes) {
  start();
  const std::vector<std::pair<std::string, std::string>> kinds{
      {"rsa-2048", "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"},
      {"rsa-3072", "-keyopt rsa_padding_mode:oaep"},
      {"ec-p256", "-keyopt ecdh_kdf_md:sha256"}};
  // First: who has asked for so much that failed waits before a change.
  for (const auto& [algorithm, options] : kinds) {
    const bool sha1 = algorithm == "rsa-3072";
    create("k-" + algorithm, "--algorithm " + algorithm + (sha1 ? " --envelope RSA-OAEP" : ""));
  }
  for (const auto& [algorithm, options] : kinds) {
    SCOPED_TRACE(algorithm);
    const std::string name = "k-" + algorithm;
    certificate(name);
    host_.shell(
        "openssl cms -encrypt -binary -in text -outform DER -aes-256-gcm -keyid -out sealed "
        "-recip cert.pem " +
        options);
    EXPECT_EQ(open("sealed"), kSecret);
    const auto sealed = host_.read("sealed");
    for (const auto& [status, text] : answers_to_flips(sealed, 0, sealed.size(), 7, name)) {
      EXPECT_TRUE(status == 6 || (status == 3 && text.find("UNSUPPORTED") != text.npos))
          << status << " " << text;
    }
    // The tag and the end of the text: what only the key can tell.
    const auto by_key = answers_to_flips(sealed, sealed.size() - 16, sealed.size(), 3, name);
    EXPECT_EQ(by_key.size(), 1u) << testing::PrintToString(by_key);
  }
}

TEST_F(Envelopes, R13_EnvelopeForAKeyThatIsNotHereNamesTheKid) {
  start();
  const std::string kid = create("credentials", "--algorithm ec-p256");
  ASSERT_EQ(host_.keyagent("seal text --key credentials -o sealed").status, 0);
  auto sealed = host_.read("sealed");
  const auto dot = sealed.find('.');
  const Bytes header = from_base64url(sealed.substr(0, dot)).value();
  std::string other(as_text(header));
  auto& byte = other[other.find(kid) + 7];
  byte = byte == 'x' ? 'y' : 'x';
  host_.write("sealed", to_base64url(as_bytes(other)) + sealed.substr(dot));
  const auto absent = other.substr(other.find(kid.substr(0, 7)), kid.size());
  EXPECT_THAT(open("sealed", 3), HasSubstr("KEY_NOT_PRESENT kid=" + absent));
  open("sealed", 6, "--key credentials");
}

}  // namespace
}  // namespace keyagent::test
