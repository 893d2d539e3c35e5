// SPDX-License-Identifier: Apache-2.0
// Envelopes and signatures of other implementations: the npm package `jose` and the `jose` command.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/envelope/keys.h"
#include "tests/envelope/program.h"

namespace keyagent::envelope {
namespace {

using test::run;
using test::secret;
using test::text_of;
using test::WorkFolder;

// The folder with jose.mjs and its node_modules, installed once a build folder from the pinned lock
// file.
std::filesystem::path node_folder() {
  const std::filesystem::path folder = KEYAGENT_INTEROP_BUILD;
  std::filesystem::create_directories(folder);
  for (const char* name : {"package.json", "package-lock.json", "jose.mjs"}) {
    // Whole at any time: other tests read it meanwhile.
    const auto copy = folder / (std::string(name) + "." + std::to_string(::getpid()));
    std::filesystem::copy_file(std::filesystem::path(KEYAGENT_INTEROP_SOURCE) / name, copy,
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::rename(copy, folder / name);
  }
  return folder;
}

class NpmJose : public testing::TestWithParam<test::KeyCase> {
 protected:
  static void SetUpTestSuite() {
    if (!test::program_there("node") || !test::program_there("npm")) return;
    folder_ = node_folder();
    // flock: test programs may start at the same time.
    const std::string line =
        "cd '" + folder_.string() +
        "' && flock .lock sh -c '[ -e node_modules/jose/package.json ] || npm ci --ignore-scripts "
        "--no-audit --no-fund' >npm.log 2>&1";
    ready_ = std::system(line.c_str()) == 0;
  }
  void SetUp() override {
    if (!ready_) {
      GTEST_SKIP() << "npm's jose is not there: install node and npm, and let `npm ci` reach its "
                      "registry (see npm.log in "
                   << folder_ << ")";
    }
  }
  void jose(const std::string& arguments) {
    run(work_, "node '" + (folder_ / "jose.mjs").string() + "' " + arguments);
  }
  void write_private(const PublicKeyInfo& key) {
    work_.write("key.der", keys_.pkcs8(key.kid));
    run(work_, "openssl pkcs8 -topk8 -nocrypt -inform DER -in key.der -out key.pem");
  }

  static inline bool ready_ = false;
  static inline std::filesystem::path folder_;
  WorkFolder work_;
  test::SoftwareKeys& keys_ = test::shared_keys();
};

class NpmJoseSeals : public NpmJose {};

TEST_P(NpmJoseSeals, R4_WhatItSealsOpens) {
  const PublicKeyInfo key = test::shared_key(GetParam());
  work_.write("pub.jwk", as_bytes(to_jwk(key)));
  work_.write("text", as_bytes("from npm jose"));
  for (const std::string enc : {"A128GCM", "A256GCM"}) {
    jose("seal " + std::string(name_of(key.envelope)) + " " + enc);
    const Bytes sealed = work_.read("sealed");
    EXPECT_EQ(inspect(sealed).kid, key.kid.text());
    EXPECT_EQ(text_of(open(keys_, key, sealed)), "from npm jose");
  }
}

TEST_P(NpmJoseSeals, R4_WhatWeSealItOpens) {
  const PublicKeyInfo key = test::shared_key(GetParam());
  write_private(key);
  work_.write("sealed", seal_jwe(key, ContentEncryption::kA256Gcm, secret("from keyagent")));
  jose("open " + std::string(name_of(key.envelope)));
  EXPECT_EQ(as_text(work_.read("text")), "from keyagent");
}

INSTANTIATE_TEST_SUITE_P(Keys, NpmJoseSeals, testing::ValuesIn(test::public_keys()),
                         test::case_name);

class NpmJoseSigns : public NpmJose {};

TEST_P(NpmJoseSigns, SignaturesGoBothWays) {
  const PublicKeyInfo key = keys_.add("signer", Purpose::kSign, GetParam().algorithm);
  work_.write("pub.jwk", as_bytes(to_jwk(key)));
  write_private(key);
  for (const auto algorithm :
       {SignatureAlgorithm::kRs256, SignatureAlgorithm::kPs256, SignatureAlgorithm::kPs384,
        SignatureAlgorithm::kRs512, SignatureAlgorithm::kEs256, SignatureAlgorithm::kEs384,
        SignatureAlgorithm::kEdDsa}) {
    if (!can_sign(key.algorithm, algorithm)) continue;
    work_.write("text", as_bytes("signed by npm jose"));
    jose("sign " + std::string(name_of(algorithm)));
    const Bytes theirs = work_.read("signed");
    EXPECT_EQ(as_text(verify_jws(key, as_text(theirs))), "signed by npm jose");
    work_.write("signed", as_bytes(sign_jws(keys_, key, algorithm, as_bytes("signed by us"))));
    jose("verify " + std::string(name_of(algorithm)));
    EXPECT_EQ(as_text(work_.read("text")), "signed by us");
  }
}

INSTANTIATE_TEST_SUITE_P(Keys, NpmJoseSigns,
                         testing::Values(test::KeyCase{KeyAlgorithm::kRsa2048, {}},
                                         test::KeyCase{KeyAlgorithm::kEcP256, {}},
                                         test::KeyCase{KeyAlgorithm::kEcP384, {}},
                                         test::KeyCase{KeyAlgorithm::kEd25519, {}}),
                         test::case_name);

class JoseCommand : public testing::TestWithParam<test::KeyCase> {
 protected:
  void SetUp() override {
    if (!test::program_there("jose")) {
      GTEST_SKIP() << "the jose command is not there: apt install jose";
    }
    const std::string alg(name_of(GetParam().envelope));
    if (std::system(("jose alg | grep -qx '" + alg + "'").c_str()) != 0) {
      GTEST_SKIP() << "this build of the jose command does not speak " << alg;
    }
  }
  WorkFolder work_;
  test::SoftwareKeys& keys_ = test::shared_keys();
};

TEST_P(JoseCommand, R4_WhatItSealsOpens) {
  const PublicKeyInfo key = test::shared_key(GetParam());
  work_.write("pub.jwk", as_bytes(to_jwk(key)));
  work_.write("text", as_bytes("from the jose command"));
  for (const std::string enc : {"A128GCM", "A256GCM"}) {
    run(work_, R"(jose jwe enc -c -I text -k pub.jwk -o sealed -i '{"protected":{"enc":")" + enc +
                   R"(","alg":")" + std::string(name_of(key.envelope)) + R"("}}')");
    EXPECT_EQ(text_of(open(keys_, key, work_.read("sealed"))), "from the jose command");
  }
}

TEST_P(JoseCommand, R4_WhatWeSealToItsKeyItOpens) {
  const bool rsa = is_rsa(GetParam().algorithm);
  const std::string crv = GetParam().algorithm == KeyAlgorithm::kEcP256 ? "P-256" : "P-384";
  const std::string bits = std::to_string(8 * rsa_modulus_size(GetParam().algorithm));
  run(work_, "jose jwk gen -o own.jwk -i '" +
                 (rsa ? R"({"kty":"RSA","bits":)" + bits + "}"
                      : R"({"kty":"EC","crv":")" + crv + R"("})") +
                 "' && jose jwk pub -i own.jwk -o pub.jwk");
  auto jwk = nlohmann::json::parse(work_.read("pub.jwk"));
  jwk["alg"] = name_of(GetParam().envelope);  // the tool would choose P-521 for every ECDH-ES
  const PublicKeyInfo key = from_jwk(jwk.dump());
  EXPECT_EQ(key.envelope, GetParam().envelope);
  work_.write("sealed", seal_jwe(key, ContentEncryption::kA256Gcm, secret("from keyagent")));
  run(work_, "jose jwe dec -i sealed -k own.jwk -O text");
  EXPECT_EQ(as_text(work_.read("text")), "from keyagent");
}

INSTANTIATE_TEST_SUITE_P(Keys, JoseCommand, testing::ValuesIn(test::public_keys()),
                         test::case_name);

}  // namespace
}  // namespace keyagent::envelope
