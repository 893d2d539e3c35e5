// SPDX-License-Identifier: Apache-2.0
#include "agent/base/error.h"

#include <gtest/gtest.h>

#include <set>

#include "agent/base/key_types.h"

namespace keyagent {
namespace {

TEST(Error, EveryCodeHasItsOwnNameThatReadsBack) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(kLastCode); ++i) {
    const auto code = static_cast<Code>(i);
    EXPECT_TRUE(names.insert(code_name(code)).second) << code_name(code);
    EXPECT_EQ(code_of_name(code_name(code)), code);
  }
  EXPECT_EQ(code_of_name("NO_SUCH_CODE"), Code::kInternal);
  EXPECT_EQ(code_name(static_cast<Code>(99)), "INTERNAL");
}

TEST(Error, ExitCodesFollowTheMissionsTable) {
  EXPECT_EQ(exit_code(Code::kOk), 0);
  EXPECT_EQ(exit_code(Code::kUsage), 2);
  EXPECT_EQ(exit_code(Code::kConfiguration), 2);
  EXPECT_EQ(exit_code(Code::kDenied), 3);
  EXPECT_EQ(exit_code(Code::kKeyState), 3);
  EXPECT_EQ(exit_code(Code::kKeyNotPresent), 3);
  EXPECT_EQ(exit_code(Code::kTokenFault), 4);
  EXPECT_EQ(exit_code(Code::kKeyLost), 4);
  EXPECT_EQ(exit_code(Code::kPeer), 5);
  EXPECT_EQ(exit_code(Code::kInput), 6);
  EXPECT_EQ(exit_code(Code::kIntegrity), 6);
  EXPECT_EQ(exit_code(Code::kPartial), 7);
  for (int i = static_cast<int>(Code::kPeerUntrusted); i <= static_cast<int>(kLastCode); ++i) {
    EXPECT_EQ(exit_code(static_cast<Code>(i)), 6) << code_name(static_cast<Code>(i));
    EXPECT_FALSE(retryable(static_cast<Code>(i)));
    EXPECT_EQ(layer_of(static_cast<Code>(i)), Layer::kPeer);
  }
}

TEST(Error, AuthenticityAndPinRefusalsAreNeverRetried) {
  for (const auto code : {Code::kInput, Code::kIntegrity, Code::kDenied, Code::kPinRefused,
                          Code::kPinLocked, Code::kKeyState}) {
    EXPECT_FALSE(retryable(code)) << code_name(code);
  }
  for (const auto code : {Code::kTokenFault, Code::kTokenAbsent, Code::kBusy, Code::kPeer}) {
    EXPECT_TRUE(retryable(code)) << code_name(code);
  }
}

TEST(KeyTypes, NamesReadBack) {
  for (const auto* name :
       {"rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384", "ed25519", "aes-256"}) {
    ASSERT_TRUE(key_algorithm_of(name)) << name;
    EXPECT_EQ(name_of(*key_algorithm_of(name)), name);
  }
  for (const auto* name : {"transport", "auth", "sign", "storage", "exchange", "audit"}) {
    ASSERT_TRUE(purpose_of(name)) << name;
    EXPECT_EQ(name_of(*purpose_of(name)), name);
  }
  EXPECT_FALSE(purpose_of("Transport"));
  EXPECT_FALSE(signature_algorithm_of("none"));
  EXPECT_FALSE(envelope_algorithm_of("RSA1_5"));
}

// Signing and opening never share a purpose, and every purpose's own default is a pair that may be
// created.
TEST(KeyTypes, PurposesSignOrOpenButNeverBoth) {
  for (int i = 0; i < 6; ++i) {
    const auto purpose = static_cast<Purpose>(i);
    const KeyAlgorithm algorithm = default_algorithm(purpose);
    EXPECT_FALSE(signs(purpose) && opens(purpose)) << name_of(purpose);
    EXPECT_TRUE(allowed(purpose, algorithm)) << name_of(purpose);
    EXPECT_EQ(signs(purpose), purpose != Purpose::kTransport && purpose != Purpose::kStorage &&
                                  purpose != Purpose::kExchange);
    EXPECT_EQ(opens(purpose), can_seal(algorithm, default_envelope(purpose, algorithm)));
  }
  EXPECT_FALSE(allowed(Purpose::kStorage, KeyAlgorithm::kRsa2048));
  EXPECT_FALSE(allowed(Purpose::kSign, KeyAlgorithm::kAes256));
  EXPECT_FALSE(allowed(Purpose::kTransport, KeyAlgorithm::kEd25519));
  EXPECT_EQ(default_envelope(Purpose::kExchange, KeyAlgorithm::kRsa3072), EnvelopeAlgorithm::kNone);
}

TEST(KeyTypes, EcdsaIsBoundToItsCurve) {
  EXPECT_TRUE(can_sign(KeyAlgorithm::kEcP256, SignatureAlgorithm::kEs256));
  EXPECT_FALSE(can_sign(KeyAlgorithm::kEcP384, SignatureAlgorithm::kEs256));
  EXPECT_FALSE(can_sign(KeyAlgorithm::kEd25519, SignatureAlgorithm::kPs256));
  EXPECT_FALSE(can_sign(KeyAlgorithm::kAes256, SignatureAlgorithm::kRs256));
  EXPECT_FALSE(default_signature(KeyAlgorithm::kAes256));
}

}  // namespace
}  // namespace keyagent
