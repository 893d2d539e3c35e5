// SPDX-License-Identifier: Apache-2.0
// How long cached credentials may be used, without an instance.

#include "agent/link/contact.h"

#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::link {
namespace {

using namespace std::chrono_literals;
constexpr auto kDay = std::chrono::hours(24);

class ContactTest : public ::testing::Test {
 protected:
  ContactTest() {
    context_.clock = &clock_;
    LinkState state;
    state.stage = LinkState::Stage::kTrusted;
    store_.put(state);
    restart();
  }
  void restart() {
    contact_.reset();
    contact_ = std::make_unique<LastContact>(context_, store_);
  }
  Code use() {
    return code_of([this] { contact_->require_fresh("db"); });
  }
  test::TempFolder folder_;
  test::FakeClock clock_;
  LinkContext context_;
  LinkStore store_{folder_.path()};
  std::unique_ptr<LastContact> contact_;
};

TEST_F(ContactTest, Fault130_CachedCredentialsEndSevenDaysAfterTheLastContact) {
  contact_->acknowledged();
  clock_.advance(7 * kDay);
  EXPECT_EQ(use(), Code::kOk);
  clock_.advance(1s);
  EXPECT_EQ(use(), Code::kKeyState);
  EXPECT_TRUE(contact_->age().expired);
  contact_->acknowledged();
  EXPECT_EQ(use(), Code::kOk);
}

TEST_F(ContactTest, Fault130_AClockThatIsSetBackGivesNoMoreTime) {
  contact_->acknowledged();
  const auto before = clock_.now();
  clock_.advance(6 * kDay);
  contact_->save();
  clock_.set(before - 30 * kDay);
  EXPECT_EQ(use(), Code::kOk);
  clock_.advance(kDay + 1s);  // by the steady clock
  EXPECT_EQ(use(), Code::kKeyState);
  contact_->save();
  clock_.set(before - 30 * kDay);
  restart();
  EXPECT_EQ(use(), Code::kKeyState) << "nor does a restart";
}

TEST_F(ContactTest, Fault130_TheTimeOfARestartCounts) {
  contact_->acknowledged();
  clock_.advance(8 * kDay);
  restart();
  EXPECT_EQ(use(), Code::kKeyState);
}

TEST_F(ContactTest, Fault130_TheInstanceMayWantLessAndNotMore) {
  contact_->acknowledged(1h);
  restart();
  clock_.advance(1h + 1s);
  EXPECT_EQ(use(), Code::kKeyState);
  contact_->acknowledged(400 * kDay);
  clock_.advance(7 * kDay + 1s);
  EXPECT_EQ(use(), Code::kKeyState);
}

TEST_F(ContactTest, Fault130_AStateFileOfAnEarlierProgramBeginsNow) {
  clock_.advance(300 * kDay);
  store_.update([](LinkState& state) { state.contact = state.seen = {}; });
  restart();
  EXPECT_EQ(use(), Code::kOk);
  clock_.advance(8 * kDay);
  restart();
  EXPECT_EQ(use(), Code::kKeyState) << "and only once";
}

}  // namespace
}  // namespace keyagent::link
