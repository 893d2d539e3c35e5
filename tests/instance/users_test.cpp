// SPDX-License-Identifier: Apache-2.0
// People on a real store.

#include "agent/store/users.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/base/error.h"
#include "agent/instance/common/users.h"
#include "agent/store/events.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_folder.h"

namespace keyagent::instance {
namespace {

class UsersTest : public testing::Test {
 protected:
  Code log_in(Users& people, const std::string& password, const std::string& from = "192.0.2.1:5",
              const std::string& user = "alice") {
    try {
      people.login({{"user", user}, {"password", password}}, from);
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kOk;
  }

  static UserEdit edit(const std::string& password, const char* role = nullptr) {
    UserEdit out;
    out.password = SecretBytes(password.begin(), password.end());
    if (role != nullptr) out.role = role;
    return out;
  }
  // A request of a new session.
  tls::HttpRequest session_of(Users& people, const std::string& password) const {
    const Json answer = people.login({{"user", "alice"}, {"password", password}}, "192.0.2.1:5");
    tls::HttpRequest request;
    request.headers["authorization"] = "Bearer " + answer.at("session").get<std::string>();
    return request;
  }
  static bool knows(Users& people, const tls::HttpRequest& request) {
    try {
      people.identify(request);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kDenied);
      return false;
    }
    return true;
  }

  test::TempFolder folder_;
  test::FakeClock clock_;
  store::Store store_{{"sqlite://" + (folder_.path() / "store/instance.db").string()}};
  Recorder recorder_{store_, clock_};
  const std::string right_ = "correct horse battery";
};

TEST_F(UsersTest, LoginsBeyondThePlacesAreBusyAtOnceAndLeaveNoTrace) {
  Users none(store_, recorder_, clock_, {}, {.places = 0});
  none.put("alice", edit(right_, "operator"), "test");
  const auto before = store_.events().list(0, 100).size();
  EXPECT_EQ(log_in(none, right_), Code::kBusy);
  EXPECT_EQ(log_in(none, "wrong"), Code::kBusy);
  EXPECT_EQ(store_.events().list(0, 100).size(), before);
}

TEST_F(UsersTest, Fault176_APasswordThatNoReaderHandsOverIsNotTaken) {
  Users people(store_, recorder_, clock_, {}, {.places = 1});
  const auto put = [&](const std::string& password) {
    people.put("alice", edit(password, "operator"), "test");
  };
  for (const std::string& odd : {right_ + "\r", right_ + "\n", right_ + "\r\n", " " + right_,
                                 "\xef\xbb\xbf" + right_, right_ + "\t"})
    EXPECT_THROW(put(odd), Error);
  put(right_);
  EXPECT_EQ(log_in(people, right_), Code::kOk);
}

TEST_F(UsersTest, APlaceIsGivenBackWhateverTheAnswerWas) {
  Users one(store_, recorder_, clock_, {}, {.places = 1});
  one.put("alice", edit(right_, "operator"), "test");
  EXPECT_EQ(log_in(one, "wrong"), Code::kDenied);
  EXPECT_EQ(log_in(one, right_), Code::kOk);
  EXPECT_EQ(log_in(one, right_), Code::kOk);
}

TEST_F(UsersTest, Fault160_AnyChangeEndsEverySessionOfThatUserAlone) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "operator"), "test");
  people.put("bob", edit("another long password", "operator"), "test");
  const std::string other = "a different password";
  UserEdit role, disable, enable;
  role.role = "auditor";
  disable.disabled = true;
  enable.disabled = false;
  auto password = right_;
  for (const auto& change : {edit(other), role, disable, enable}) {
    tls::HttpRequest first, second;
    if (!store_.users().find("alice")->disabled) {
      first = session_of(people, password);
      second = session_of(people, password);
      ASSERT_TRUE(knows(people, first));
    }
    people.put("bob", role, "test");
    if (!store_.users().find("alice")->disabled) {
      EXPECT_TRUE(knows(people, second));
    }
    people.put("alice", change, "test");
    if (!change.password.empty()) password = other;
    EXPECT_FALSE(knows(people, first));
    EXPECT_FALSE(knows(people, second));
  }
}

TEST_F(UsersTest, Fault160_NoOtherChangeEnablesADisabledUser) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "operator"), "test");
  UserEdit change;
  change.disabled = true;
  people.put("alice", change, "test");
  change = {};
  change.role = "admin";
  people.put("alice", change, "test");
  EXPECT_TRUE(store_.users().find("alice")->disabled);
  people.put("alice", edit("a different password"), "test");
  change = {};
  change.spki_sha256 = "abc";
  people.put("alice", change, "test");
  EXPECT_TRUE(store_.users().find("alice")->disabled);
  EXPECT_EQ(store_.users().find("alice")->role, "admin");
  EXPECT_EQ(store_.users().find("alice")->spki_sha256, "abc");
  EXPECT_EQ(log_in(people, "a different password"), Code::kDenied);
  change = {};
  change.disabled = false;
  people.put("alice", change, "test");
  EXPECT_EQ(log_in(people, "a different password"), Code::kOk);
}

TEST_F(UsersTest, Fault159_TheLastAdminsAreKeptAndTheErrorNamesTheWayOut) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "admin"), "test");
  people.put("bob", edit(right_, "admin"), "test");
  UserEdit off, other;
  off.disabled = true;
  other.role = "operator";
  for (const auto& change : {off, other}) {
    try {
      people.put("bob", change, "user alice", 2);
      ADD_FAILURE() << "one admin is left";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kKeyState);
      EXPECT_NE(std::string(error.what()).find("keyinstanced --config FILE user bob --"),
                std::string::npos)
          << error.what();
    }
  }
  EXPECT_EQ(store_.events().list(0, 100).back().outcome, "refused");
  people.put("bob", off, "user alice", 1);
  EXPECT_THROW(people.put("alice", off, "user alice", 1), Error);
  people.put("alice", off, "uid 0");  // on the instance's host
  EXPECT_TRUE(store_.users().find("alice")->disabled);
}

TEST_F(UsersTest, Fault160_ASessionEndsWithItsIdleLimitAndWithItsLife) {
  using std::chrono::minutes;
  Users people(store_, recorder_, clock_, {minutes(60), minutes(10)});
  people.put("alice", edit(right_, "operator"), "test");
  const auto idle = session_of(people, right_), busy = session_of(people, right_);
  for (int i = 0; i < 9; ++i) {
    clock_.advance(minutes(6));
    EXPECT_TRUE(knows(people, busy));
  }
  EXPECT_FALSE(knows(people, idle));
  clock_.advance(minutes(7));
  EXPECT_FALSE(knows(people, busy));
}

TEST_F(UsersTest, Fault160_AllSessionsOfAUserEndAtOnceWhenAsked) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "operator"), "test");
  const auto first = session_of(people, right_), second = session_of(people, right_);
  EXPECT_EQ(people.end_sessions("alice", "test").at("ended"), 2);
  EXPECT_FALSE(knows(people, first));
  EXPECT_FALSE(knows(people, second));
  EXPECT_EQ(log_in(people, right_), Code::kOk);
  EXPECT_THROW(people.end_sessions("nobody", "test"), Error);
}

// Each costs a password's hash, a second without optimization: few are enough.
TEST_F(UsersTest, Fault151_WrongPasswordsFromOneAddressDoNotLockOutOthers) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "admin"), "test");
  int looked_at = 0;
  for (int i = 0; i < 40; ++i) looked_at += log_in(people, "wrong") == Code::kDenied ? 1 : 0;
  EXPECT_EQ(looked_at, 4);
  EXPECT_EQ(log_in(people, right_), Code::kBusy);  // not even the right one, from there
  EXPECT_EQ(log_in(people, right_, "192.0.2.2:5"), Code::kOk);
  clock_.advance(std::chrono::seconds(2));
  EXPECT_EQ(log_in(people, right_), Code::kOk);
}

TEST_F(UsersTest, Fault151_UnknownNamesCostTheAddressAndRevealNothing) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "admin"), "test");
  const auto before = store_.events().list(0, 1000).size();
  int looked_at = 0;
  for (int i = 0; i < 60; ++i)
    looked_at +=
        log_in(people, "wrong", "198.51.100.7:1", "n" + std::to_string(i)) == Code::kDenied;
  EXPECT_EQ(looked_at, 11);
  // A name that is there is answered like one that is not.
  EXPECT_EQ(log_in(people, right_, "198.51.100.7:2"), Code::kBusy);
  EXPECT_EQ(log_in(people, right_), Code::kOk);
  // One event of the address, one of the login, and the summary.
  EXPECT_EQ(store_.events().list(0, 1000).size(), before + 2);
  people.summarize_failures();
  const auto events = store_.events().list(0, 1000);
  EXPECT_EQ(events.size(), before + 3);
  EXPECT_EQ(events.back().actor, "198.51.100.7");
  EXPECT_EQ(events.back().text, "60 more refused logins");
}

// A flood from one address, over as many connections as it likes.
TEST_F(UsersTest, Fault151_RightLoginsSucceedWhileAnotherAddressFloods) {
  Users people(store_, recorder_, clock_, {});
  people.put("alice", edit(right_, "admin"), "test");
  std::atomic<bool> over = false;
  std::vector<std::thread> flood;
  for (int i = 0; i < 6; ++i)
    flood.emplace_back([&, i] {
      for (int n = 0; !over; ++n)
        log_in(people, "wrong", "198.51.100.7:1", "n" + std::to_string(100 * n + i));
    });
  int done = 0;
  for (int i = 0; i < 8; ++i) done += log_in(people, right_) == Code::kOk ? 1 : 0;
  over = true;
  for (auto& each : flood) each.join();
  EXPECT_EQ(done, 8);
}

}  // namespace
}  // namespace keyagent::instance
