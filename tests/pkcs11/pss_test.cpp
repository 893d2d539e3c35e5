// SPDX-License-Identifier: Apache-2.0
// RSASSA-PSS on tokens that lack it, or have it with other parameters (RELIABILITY 67).

#include "pkcs11/probe.h"
#include "tests/pkcs11/token_fixture.h"

namespace keyagent::pkcs11 {
namespace {

using Outcome = ProbeResult::Outcome;

class PssTest : public TokenTest {
 protected:
  void open_with_key() {
    open();
    spki_ = generate_key(1, KeyKind::kRsa2048);
  }
  Bytes sign_with(SignScheme scheme, Hash hash, const Bytes& digest) {
    return token_->run([&](Session& session) {
      return sign(session, id(), KeyKind::kRsa2048, scheme, hash, digest);
    });
  }
  static const ProbeResult& find(const ProbeReport& report, const std::string& name) {
    for (const auto& result : report.results) {
      if (result.name.starts_with(name)) return result;
    }
    throw std::runtime_error("no result " + name);
  }
  Bytes spki_;
};

// TLS 1.3 (RFC 8446 §4.2.3) and JWS (RFC 7518 §3.5) take a salt of the digest's size only; OpenSSL
// is asked to insist on it.
TEST_F(PssTest, Fault067_SaltAndMaskAreThoseOfTheDigest) {
  open_with_key();
  const std::pair<Hash, std::size_t> hashes[] = {
      {Hash::kSha256, 32}, {Hash::kSha384, 48}, {Hash::kSha512, 64}};
  for (const auto& [hash, size] : hashes) {
    const Bytes digest(size, 0x21);
    const auto signature = sign_with(SignScheme::kPss, hash, digest);
    EXPECT_TRUE(verify_signature(spki_, SignScheme::kPss, hash, digest, signature)) << size;
    EXPECT_FALSE(verify_signature(spki_, SignScheme::kPkcs1, hash, digest, signature)) << size;
  }
}

TEST_F(PssTest, Fault067_ATokenThatRefusesTheParametersIsReportedAndNothingElseIsSigned) {
  open_with_key();
  shim::reset_counts();
  for (const char* code : {"0x70", "0x71"}) {
    shim::set_faults(std::string("C_SignInit:n=1:rv=") + code);
    try {
      sign_with(SignScheme::kPss, Hash::kSha256, Bytes(32, 1));
      ADD_FAILURE() << code;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kRv);
      EXPECT_EQ(error.rv_class(), RvClass::kCall) << "neither bad input nor a dead token";
    }
  }
  // No second try in another padding, no canary, no reload.
  EXPECT_EQ(shim::count("C_SignInit"), 2u);
  EXPECT_EQ(shim::count("C_Sign"), 0u);
  EXPECT_EQ(token_->status().canaries, 0u);
  const Bytes digest(32, 1);
  EXPECT_TRUE(verify_signature(spki_, SignScheme::kPkcs1, Hash::kSha256, digest,
                               sign_with(SignScheme::kPkcs1, Hash::kSha256, digest)));
}

TEST_F(PssTest, Fault067_AProfileWithoutItIsRefusedBeforeTheTokenIsAsked) {
  profile_.pss = false;
  open_with_key();
  shim::reset_counts();
  EXPECT_EQ(kind_of([&] { sign_with(SignScheme::kPss, Hash::kSha256, Bytes(32, 1)); }),
            Error::Kind::kUnsupported);
  EXPECT_EQ(shim::count("C_SignInit"), 0u);
}

TEST_F(PssTest, Fault067_TheProbeNamesAClaimThatTheTokenDoesNotKeep) {
  open();
  shim::set_faults("C_SignInit:every=1:rv=0x71");
  auto report = probe(*token_);
  EXPECT_EQ(find(report, "sign PS256").outcome, Outcome::kFails);
  EXPECT_NE(find(report, "sign PS256").detail.find("CKR_MECHANISM_PARAM_INVALID"),
            std::string::npos);
  EXPECT_FALSE(report.sound());
  shim::clear();
  profile_.pss = false;
  restart();
  report = probe(*token_);
  EXPECT_EQ(find(report, "sign PS256").outcome, Outcome::kAbsent);
  EXPECT_TRUE(report.sound());
}

}  // namespace
}  // namespace keyagent::pkcs11
