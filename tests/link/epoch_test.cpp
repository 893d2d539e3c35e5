// SPDX-License-Identifier: Apache-2.0
// What an agent keeps of how far its instance was (RELIABILITY 132).

#include "agent/link/epoch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "tests/support/software_keys.h"
#include "tests/support/temp_folder.h"

namespace keyagent::link {
namespace {

using testing::HasSubstr;

class EpochTest : public testing::Test {
 protected:
  EpochTest() {
    context_.tell = [this](const keys::KeyEvent& each) { told_.push_back(each); };
    LinkState state;
    state.stage = LinkState::Stage::kTrusted;
    state.instance = "keys-example";
    state.confirmation_key = to_base64url(pinned_.spki);
    store_.put(state);
  }
  std::string sign(const PublicKeyInfo& key, const std::string& instance, int number) {
    const nlohmann::json payload{{"instance", instance}, {"epoch", number}, {"at", "now"}};
    return envelope::sign_jws(keys_, key, SignatureAlgorithm::kEs256, as_bytes(payload.dump()));
  }
  std::string said(int number) { return sign(pinned_, "keys-example", number); }
  void hear(const std::string& jws) { epoch_.hear(*store_.get(), jws); }
  std::string kept() { return store_.get()->epoch; }

  test::TempFolder folder_;
  test::SoftwareKeys keys_;
  PublicKeyInfo pinned_ = keys_.add("pinned", Purpose::kSign, KeyAlgorithm::kEcP256);
  PublicKeyInfo other_ = keys_.add("other", Purpose::kSign, KeyAlgorithm::kEcP256);
  std::vector<keys::KeyEvent> told_;
  LinkContext context_;
  LinkStore store_{folder_.path()};
  Epoch epoch_{context_, store_};
};

TEST_F(EpochTest, Fault132_TheGreatestStaysAndASmallerOneIsAnAlarmOnce) {
  const auto first = said(7), greater = said(9), smaller = said(8);
  hear(first);
  EXPECT_EQ(kept(), first);
  hear(greater);
  hear(greater);
  EXPECT_EQ(kept(), greater);
  EXPECT_TRUE(told_.empty());
  hear(smaller);
  hear(smaller);
  EXPECT_EQ(kept(), greater);
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_EQ(told_[0].what, "link.instance-restored");
  EXPECT_EQ(told_[0].weight, keys::KeyEvent::Weight::kAlarm);
  EXPECT_THAT(told_[0].detail, HasSubstr("at event 8 and was at 9"));
  EXPECT_EQ(LinkStore(folder_.path()).get()->epoch, greater) << "after a restart too";
}

TEST_F(EpochTest, Fault132_WhatThePinnedKeyDidNotSignForThisInstanceIsNotKept) {
  const auto first = said(7);
  hear(first);
  for (const auto& jws : {sign(other_, "keys-example", 100), sign(pinned_, "another", 100),
                          std::string("a.b.c"), std::string("none")})
    hear(jws);
  EXPECT_EQ(kept(), first);
  EXPECT_FALSE(told_.empty());
}

TEST_F(EpochTest, AnInstanceThatSaysNoneChangesNothing) {
  hear("");
  EXPECT_EQ(kept(), "");
  const auto first = said(7);
  hear(first);
  hear("");
  EXPECT_EQ(kept(), first);
  EXPECT_TRUE(told_.empty());
}

}  // namespace
}  // namespace keyagent::link
