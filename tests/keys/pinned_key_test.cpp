// SPDX-License-Identifier: Apache-2.0
// Keys that agents pinned when they enrolled: no rekey replaces them.

#include "tests/keys/rekey_fixture.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class PinnedKeyTest : public RekeyTest {
 protected:
  static constexpr auto kDay = std::chrono::hours(24);
};

TEST_F(PinnedKeyTest, R7_KeysThatAgentsPinnedAreNotRekeyedAndNeverDue) {
  for (const auto& [name, purpose, cure] :
       {std::tuple{"instance-ca", Purpose::kCa, "keyinstanced clone"},
        {"instance-confirm", Purpose::kConfirm, "--purpose confirm"}}) {
    const auto before = make(name, purpose, KeyAlgorithm::kEcP256);
    periods_.by_purpose[purpose] = {kDay, Span(0), Span(0), true};
    try {
      begin(name);
      ADD_FAILURE() << name << " is rekeyed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUnsupported);
      EXPECT_THAT(error.what(), HasSubstr("agents pinned it"));
      EXPECT_THAT(error.what(), HasSubstr(cure));
    }
    clock_.advance(10 * kDay);
    EXPECT_FALSE(next_rekey(before, periods_));
    EXPECT_EQ(store_->find(name).kid, before.kid);
  }
}

// A sign key from before there were purposes for what it does: its recorded use is checked when a
// rekey begins, by a user or by the scheduler, and again at the switch.
TEST_F(PinnedKeyTest, R7_ASignKeyThatServesAsAPinnedOneIsNotRekeyedEither) {
  periods_.by_purpose[Purpose::kSign] = {kDay, Span(0), Span(0), true};
  const auto ca = make("my-ca", Purpose::kSign, KeyAlgorithm::kEcP256);
  make("other", Purpose::kSign, KeyAlgorithm::kEcP256);
  store_->note_vouching(ca.kid, Purpose::kCa);
  store_->note_vouching(ca.kid, Purpose::kIdentity);
  EXPECT_EQ(store_->vouched_as(ca.kid), Purpose::kCa) << "what must not change wins";
  EXPECT_EQ(code_of([&] { begin("my-ca"); }), Code::kUnsupported);
  pass(10 * kDay);
  EXPECT_EQ(store_->find("my-ca").kid, ca.kid);
  EXPECT_TRUE(said("rekey.refused"));
  EXPECT_GT(store_->find("other").generation, 1) << "the next one has its turn";
  open();
  EXPECT_EQ(code_of([&] { begin("my-ca"); }), Code::kUnsupported) << "after a restart too";
}

TEST_F(PinnedKeyTest, R7_AKeyThatIsPinnedWhileItsRekeyWaitsIsNotSwitched) {
  peer_ = &the_peer_;
  open();
  const auto old = make("my-ca", Purpose::kSign, KeyAlgorithm::kEcP256);
  the_peer_.proof = {Confirmation::Answer::kLater, "the hook has not answered"};
  const auto id = rekey("my-ca").id;
  ASSERT_EQ(step(id), RekeyStep::kGenerated);
  const auto retype = [&](const char* name) {
    return code_of([&] { store_->retype(KeyName(name), Purpose::kCa, {"test"}); });
  };
  EXPECT_EQ(retype("my-ca"), Code::kKeyState) << "it is being rekeyed";
  store_->note_vouching(old.kid, Purpose::kCa);
  the_peer_.proof = {};
  clock_.advance(10min);
  runner_->run(Span(0));
  EXPECT_EQ(step(id), RekeyStep::kAborted);
  EXPECT_THAT(store_->rekey(id).reason, HasSubstr("agents pinned it"));
  EXPECT_EQ(store_->find("my-ca").kid, old.kid);
  EXPECT_EQ(store_->find("my-ca").state, KeyState::kActive);
  EXPECT_EQ(retype("my-ca"), Code::kOk);
}

}  // namespace
}  // namespace keyagent::keys
