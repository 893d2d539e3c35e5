// SPDX-License-Identifier: Apache-2.0
// What the old generation of an auth key still signs after its rekey.

#include "tests/keys/rekey_fixture.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;

class HandshakeOverlapTest : public RekeyTest {
 protected:
  static Code sign(KeyOps& ops, const KeyRecord& key) {
    return code_of([&] { ops.sign(key.kid, SignatureAlgorithm::kEs256, Bytes(32, 'h')); });
  }
};

// A server needs a moment to learn of its new certificate. Only what handshakes are signed with has
// that moment, and only for handshakes.
TEST_F(HandshakeOverlapTest, T8_AnOldAuthKeyEndsHandshakesForTwoMinutesAndNoOtherKeyDoes) {
  const auto auth = make("auth", Purpose::kAuth, KeyAlgorithm::kEcP256);
  const auto data = make("data", Purpose::kSign, KeyAlgorithm::kEcP256);
  for (const char* name : {"auth", "data"}) rekey(name);
  EXPECT_EQ(store_->find(auth.kid.text()).state, KeyState::kDeactivated);
  EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kOk);
  EXPECT_EQ(sign(store_->handshake_ops(), data), Code::kKeyState);
  EXPECT_EQ(sign(store_->ops_while_rekeying(auth.kid), auth), Code::kOk) << "the link's";
  for (KeyOps* ops : {&store_->ops(), &store_->proving_ops()})
    EXPECT_EQ(sign(*ops, auth), Code::kKeyState) << "this may be no handshake";
  clock_.advance(119s);
  EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kOk);
  clock_.advance(1s);
  EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kKeyState);
  for (const auto back : {60s, 3600s}) {
    clock_.set(clock_.now() - back);
    EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kKeyState)
        << "a clock that is set back gives it no more";
  }
}

// A key that was suspended on suspicion must not sign again after a rekey.
TEST_F(HandshakeOverlapTest, T8_R16_AnAuthKeyThatIsSuspectedEndsNoHandshakes) {
  const auto before = make("before", Purpose::kAuth, KeyAlgorithm::kEcP256);
  const auto after = make("after", Purpose::kAuth, KeyAlgorithm::kEcP256);
  const auto restarted = make("restarted", Purpose::kAuth, KeyAlgorithm::kEcP256);
  store_->change_state("before", KeyState::kSuspended, {"strange uses", "tester"});
  for (const char* name : {"before", "after", "restarted"}) rekey(name);
  EXPECT_EQ(store_->find(before.kid.text()).state, KeyState::kDeactivated);
  EXPECT_EQ(sign(store_->handshake_ops(), before), Code::kKeyState);
  EXPECT_EQ(sign(store_->handshake_ops(), after), Code::kOk);
  store_->change_state(after.kid.text(), KeyState::kCompromised, {"stolen", "tester"});
  EXPECT_EQ(sign(store_->handshake_ops(), after), Code::kKeyState);
  open();
  EXPECT_EQ(sign(store_->handshake_ops(), restarted), Code::kKeyState);
}

TEST_F(HandshakeOverlapTest, T8_Fault163_AnOldAuthKeyWhoseTokenSignsWrongEndsNoMoreHandshakes) {
  const auto auth = make("auth", Purpose::kAuth, KeyAlgorithm::kEcP256);
  rekey("auth");
  test::shim::set_faults("C_Sign:every=1:flip");
  EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kIntegrity);
  test::shim::clear();
  EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kKeyState);
  EXPECT_TRUE(store_->suspend_faulty().empty()) << "it is not active";
  EXPECT_EQ(sign(store_->handshake_ops(), auth), Code::kKeyState);
}

}  // namespace
}  // namespace keyagent::keys
