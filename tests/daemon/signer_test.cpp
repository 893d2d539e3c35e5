// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <future>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/daemon/checkpoint_signer.h"
#include "agent/envelope/envelope.h"
#include "tests/support/software_keys.h"

namespace keyagent::daemon {
namespace {

using namespace std::chrono_literals;

class SlowKeys final : public test::SoftwareKeys {
 public:
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override {
    if (hang) released.get_future().wait();
    return SoftwareKeys::sign(kid, algorithm, input);
  }
  std::atomic<bool> hang{false};
  std::promise<void> released;
};

TEST(CheckpointSigner, SignatureVerifiesOverThePayload) {
  SlowKeys keys;
  const auto key = keys.add("audit", Purpose::kAudit, KeyAlgorithm::kEcP256);
  CheckpointSigner signer(keys, key.kid, SignatureAlgorithm::kEs256);
  const auto made = signer.sign(as_bytes("payload"));
  EXPECT_EQ(made.algorithm, "ES256");
  EXPECT_TRUE(envelope::verify_signature(key.spki, SignatureAlgorithm::kEs256,
                                         sha256(as_bytes("payload")), made.signature));
}

TEST(CheckpointSigner, Fault045_HungTokenNeverHoldsTheAuditLog) {
  SlowKeys keys;
  const auto key = keys.add("audit", Purpose::kAudit, KeyAlgorithm::kEcP256);
  CheckpointSigner signer(keys, key.kid, SignatureAlgorithm::kEs256, 50ms);
  keys.hang = true;
  for (int i = 0; i < 3; ++i) {
    try {
      signer.sign(as_bytes("payload"));
      FAIL() << "signed by a token that hangs";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kTokenStuck);
    }
  }
  keys.hang = false;
  keys.released.set_value();
  EXPECT_NO_THROW({
    for (int i = 0;; ++i) {
      try {
        signer.sign(as_bytes("payload"));
        break;
      } catch (const Error&) {
        if (i > 1000) throw;
        std::this_thread::yield();
      }
    }
  });
}

TEST(CheckpointSigner, KeyOfAnotherDigestIsRefused) {
  SlowKeys keys;
  const auto key = keys.add("audit", Purpose::kAudit, KeyAlgorithm::kEcP384);
  EXPECT_THROW(CheckpointSigner(keys, key.kid, SignatureAlgorithm::kEs384), Error);
}

}  // namespace
}  // namespace keyagent::daemon
