// People on a real store.

#include "agent/instance/people.h"

#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

class PeopleTest : public testing::Test {
 protected:
  Code log_in(People& people, const std::string& password) {
    try {
      people.login({{"user", "alice"}, {"password", password}}, "192.0.2.1:5");
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kOk;
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  store::Store store_{{"sqlite://" + (folder_.path() / "store/instance.db").string()}};
  Recorder recorder_{store_, clock_};
  const std::string right_ = "correct horse battery";
};

TEST_F(PeopleTest, LoginsBeyondThePlacesAreBusyAtOnceAndLeaveNoTrace) {
  People none(store_, recorder_, clock_, std::chrono::hours(8), 0);
  none.put("alice", "operator", SecretBytes(right_.begin(), right_.end()), "", false, "test");
  const auto before = store_.events(0, 100).size();
  EXPECT_EQ(log_in(none, right_), Code::kBusy);
  EXPECT_EQ(log_in(none, "wrong"), Code::kBusy);
  EXPECT_EQ(store_.events(0, 100).size(), before);
}

TEST_F(PeopleTest, APlaceIsGivenBackWhateverTheAnswerWas) {
  People one(store_, recorder_, clock_, std::chrono::hours(8), 1);
  one.put("alice", "operator", SecretBytes(right_.begin(), right_.end()), "", false, "test");
  EXPECT_EQ(log_in(one, "wrong"), Code::kDenied);
  EXPECT_EQ(log_in(one, right_), Code::kOk);
  EXPECT_EQ(log_in(one, right_), Code::kOk);
}

}  // namespace
}  // namespace keyagent::instance
