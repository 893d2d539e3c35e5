// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/list_drafts.h"

#include <gtest/gtest.h>

#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;

class ListDraftsTest : public ::testing::Test {
 protected:
  std::vector<pki::Revoked> some(std::size_t count) const {
    return std::vector<pki::Revoked>(count, {"01", clock_.now(), "superseded"});
  }
  Code refusal(const std::string& caller, std::size_t count) {
    return code_of([&] { drafts_.add(caller, {"ca", 1}, some(count)); });
  }
  test::FakeClock clock_;
  ListDrafts drafts_{clock_};
};

TEST_F(ListDraftsTest, Fault144_DraftsAreBoundedInNumberEntriesAndTime) {
  for (const std::string caller : {"a", "b", "c", "d"}) drafts_.add(caller, {"ca", 1}, some(1));
  EXPECT_EQ(refusal("e", 1), Code::kBusy);
  drafts_.add("a", {"ca", 1}, some(1));
  EXPECT_EQ(drafts_.finish("a", {"ca", 1}, some(1), 3).size(), 3u);
  clock_.advance(2min);
  drafts_.forget_old();
  EXPECT_EQ(drafts_.entries(), 0u);
  drafts_.add("e", {"ca", 1}, some(1));
  EXPECT_EQ(code_of([&] {
              drafts_.finish("b", {"ca", 1}, some(1), 2);
            }),
            Code::kDenied)
      << "forgotten";
}

TEST_F(ListDraftsTest, Fault144_ACallerHasOneDraftWhateverKeysItHas) {
  for (const std::string kid : {"ca1", "ca2", "ca3", "ca4", "ca5"})
    drafts_.add("a", {kid, 1}, some(3));
  drafts_.add("a", {"ca5", 2}, some(3));
  EXPECT_EQ(drafts_.entries(), 3u);
  drafts_.add("b", {"ca", 1}, some(1));
  EXPECT_EQ(drafts_.finish("b", {"ca", 1}, some(1), 2).size(), 2u);
  EXPECT_EQ(code_of([&] {
              drafts_.finish("a", {"ca1", 2}, some(1), 4);
            }),
            Code::kDenied)
      << "the entries of another key's list";
}

TEST_F(ListDraftsTest, Fault144_AllDraftsTogetherAreBounded) {
  drafts_.add("a", {"ca", 1}, some(ListDrafts::kMaxEntries));
  drafts_.add("b", {"ca", 1}, some(ListDrafts::kMaxEntries));
  EXPECT_EQ(refusal("c", 1), Code::kBusy);
  EXPECT_EQ(drafts_.entries(), ListDrafts::kMaxAll);
}

TEST_F(ListDraftsTest, Fault144_ADraftThatIsTooLongIsDeleted) {
  drafts_.add("a", {"ca", 1}, some(10));
  EXPECT_EQ(refusal("a", ListDrafts::kMaxEntries), Code::kDenied);
  EXPECT_EQ(drafts_.entries(), 0u);
}

}  // namespace
}  // namespace keyagent::gate
