// SPDX-License-Identifier: Apache-2.0
#pragma once
// A SoftHSM token behind the shim with one signing key, and what the tests of this room ask of it.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/object.h"
#include "pkcs11/token.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::pkcs11 {

namespace shim = keyagent::test::shim;

class TokenTest : public ::testing::Test {
 protected:
  TokenTest() : profile_(hsm_.shimmed_profile()), options_(hsm_.options()) {
    shim::clear();
    shim::reset_counts();
  }
  ~TokenTest() override {
    shim::clear();
    shim::release_hangs();
  }

  void open() { token_ = std::make_unique<Token>(profile_, options_); }
  void restart() {
    token_.reset();
    open();
  }

  static Bytes id(std::uint8_t number = 1) { return Bytes(16, number); }

  Bytes generate_key(std::uint8_t number = 1, KeyKind kind = KeyKind::kEcP256) {
    const KeySpec spec{kind, Usage::kSign, id(number), "keyagent-test", false};
    return token_->run([&](Session& session) { return generate(session, spec); }, true);
  }
  Bytes sign_digest(std::uint8_t number = 1) {
    return token_->run([&](Session& session) {
      return sign(session, id(number), KeyKind::kEcP256, SignScheme::kEcdsa, Hash::kSha256,
                  Bytes(32, 0x5a));
    });
  }
  bool verifies(const Bytes& spki, const Bytes& signature) {
    return verify_signature(spki, SignScheme::kEcdsa, Hash::kSha256, Bytes(32, 0x5a), signature);
  }

  // The kind of what `work` throws; fails the test when it throws nothing.
  template <class Work>
  static Error::Kind kind_of(Work&& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.kind();
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error::Kind::kProfile;
  }

  // Asks again until it is so, for at most a minute: a condition that stays true.
  template <class Condition>
  static bool eventually(Condition&& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  test::SoftHsm hsm_;
  Profile profile_;
  TokenOptions options_;
  std::unique_ptr<Token> token_;
};

}  // namespace keyagent::pkcs11
