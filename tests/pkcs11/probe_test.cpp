// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/probe.h"

#include "pkcs11/libp11_view.h"
#include "tests/pkcs11/token_fixture.h"

namespace keyagent::pkcs11 {
namespace {

using Outcome = ProbeResult::Outcome;

class Probe : public TokenTest {
 protected:
  static const ProbeResult& find(const ProbeReport& report, const std::string& name) {
    for (const auto& result : report.results) {
      if (result.name.starts_with(name)) return result;
    }
    throw std::runtime_error("no result " + name);
  }
};

TEST_F(Probe, SoftHsmKeepsWhatItsProfileClaims) {
  open();
  const auto report = probe(*token_);
  for (const auto& result : report.results) {
    EXPECT_TRUE(!result.claimed || result.outcome == Outcome::kWorks ||
                result.outcome == Outcome::kRefused)
        << result.name << ": " << result.detail;
  }
  EXPECT_TRUE(report.sound());
  EXPECT_GT(find(report, "sign ES256").p999_us, 0);
}

TEST_F(Probe, LeavesNothingInTheToken) {
  open();
  probe(*token_);
  EXPECT_TRUE(token_->run([](Session& session) { return list_objects(session); }).empty());
}

TEST_F(Probe, Fault066_ClaimOfAHashThatTheTokenLacksIsFound) {
  profile_.oaep_sha256 = OaepPath::kNative;
  open();
  const auto report = probe(*token_);
  EXPECT_EQ(find(report, "decrypt RSA-OAEP-256").outcome, Outcome::kFails);
  EXPECT_FALSE(report.sound());
}

TEST_F(Probe, Fault068_MechanismThatIsGoneIsNamed) {
  open();
  shim::set_faults("C_SignInit:every=1:rv=0x70");
  const auto report = probe(*token_);
  EXPECT_EQ(find(report, "sign ES256").outcome, Outcome::kFails);
  EXPECT_NE(find(report, "sign ES256").detail.find("CKR_MECHANISM_INVALID"), std::string::npos);
  EXPECT_FALSE(report.sound());
}

// A token that wants the other party's point in DER answers as to any parameter that it does not
// understand: the claim is found wrong before a key is planned on it.
TEST_F(Probe, Fault063_ATokenThatDoesNotTakeARawPointIsFoundByARoundTrip) {
  open();
  shim::set_faults("C_DeriveKey:every=1:rv=0x71");
  const auto report = probe(*token_);
  int ecdh = 0;
  for (const auto& result : report.results) {
    if (result.detail.find("C_DeriveKey") == std::string::npos) continue;
    ++ecdh;
    EXPECT_EQ(result.outcome, Outcome::kFails) << result.name;
  }
  EXPECT_GE(ecdh, 1);
  EXPECT_FALSE(report.sound());
  shim::clear();
  EXPECT_TRUE(probe(*token_).sound()) << "the raw one is taken here";
}

TEST_F(Probe, Fault069_CurveRefusedLateIsFoundBeforeAnyKeyIsPlanned) {
  open();
  shim::set_faults("C_GenerateKeyPair:every=1:rv=0x140");
  const auto report = probe(*token_);
  EXPECT_EQ(find(report, "generate ec-p384").outcome, Outcome::kFails);
  EXPECT_EQ(find(report, "generate aes-256").outcome, Outcome::kWorks);
}

TEST_F(Probe, UnclaimedIsAbsentAndDoesNotCount) {
  profile_.aes_gcm = false;
  open();
  const auto report = probe(*token_);
  EXPECT_EQ(find(report, "encrypt A256GCM").outcome, Outcome::kAbsent);
}

}  // namespace
}  // namespace keyagent::pkcs11
