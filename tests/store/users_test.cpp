// SPDX-License-Identifier: Apache-2.0
// Users, their sessions, and what the end of their time leaves.

#include "agent/store/users.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "agent/store/challenges.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"
#include "agent/store/logins.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

constexpr std::chrono::hours kIdle{1};

class StoredUsers : public BothTest {};
KEYAGENT_ON_BOTH(StoredUsers);

TEST_P(StoredUsers, UserIsReadBackAndUpdated) {
  User user{.name = kAwkward,
            .role = "auditor",
            .password = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdA$aGFzaA",
            .spki_sha256 = "abc_-",
            .disabled = false};
  EXPECT_TRUE(store().users().add(user));
  EXPECT_FALSE(store().users().add(user));
  const User before = user;
  user.role = "admin";
  user.password.clear();
  user.disabled = true;
  EXPECT_EQ(store().users().update(before, user, sample_event()), 0);
  EXPECT_FALSE(store().users().update(before, user, sample_event()));  // it is another row now
  ASSERT_EQ(store().users().all().size(), 1u);
  const auto read = store().users().find(kAwkward).value();
  EXPECT_EQ(read.name, user.name);
  EXPECT_EQ(read.role, user.role);
  EXPECT_EQ(read.password, "");
  EXPECT_EQ(read.spki_sha256, user.spki_sha256);
  EXPECT_TRUE(read.disabled);
  user.name = "nobody";
  EXPECT_FALSE(store().users().update(user, user, sample_event()));
  EXPECT_FALSE(store().users().find("nobody"));
}

TEST_P(StoredUsers, Fault159_AsManyEnabledUsersKeepARoleAsItsFloorSays) {
  for (const auto* name : {"ada", "bob", "cleo"}) store().users().add({name, "admin", "", name});
  store().users().add({"dora", "auditor", "", "dora"});
  const auto change = [&](const std::string& name, const std::string& role, bool disabled,
                          const RoleFloor& floor) {
    const auto before = store().users().find(name).value();
    auto after = before;
    after.role = role;
    after.disabled = disabled;
    try {
      return store().users().update(before, after, sample_event(), floor).has_value();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kKeyState);
      EXPECT_EQ(store().users().find(name), before);
      return false;
    }
  };
  EXPECT_TRUE(change("ada", "admin", true, {"admin", 2}));
  EXPECT_FALSE(change("bob", "admin", true, {"admin", 2}));
  EXPECT_FALSE(change("bob", "operator", false, {"admin", 2}));
  EXPECT_TRUE(change("ada", "operator", true, {"admin", 2})) << "it did not count";
  EXPECT_TRUE(change("dora", "auditor", true, {"admin", 2}));
  EXPECT_TRUE(change("bob", "admin", false, {"admin", 2})) << "it stays one";
  EXPECT_TRUE(change("bob", "operator", false, {"admin", 1}));
  EXPECT_FALSE(change("cleo", "admin", true, {"admin", 1}));
  EXPECT_TRUE(change("cleo", "admin", true, {}));
}

TEST_P(StoredUsers, LoginEndsWithItsTimeItsRemovalOrItsUser) {
  User ada{.name = "ada", .role = "admin", .password = "", .spki_sha256 = ""};
  store().users().add(ada);
  const auto before = kNow - std::chrono::milliseconds(1);
  const LoginSession session{
      .hash = random_bytes(32), .user = "ada", .expires = kNow, .used = before};
  ASSERT_TRUE(store().logins().add(session, ada));
  EXPECT_EQ(store().logins().use(session.hash, before, kIdle), ada);
  EXPECT_FALSE(store().logins().use(session.hash, kNow, kIdle));
  EXPECT_FALSE(store().logins().use(random_bytes(32), before, kIdle));
  store().logins().remove(session.hash);
  EXPECT_FALSE(store().logins().use(session.hash, before, kIdle));
}

TEST_P(StoredUsers, Fault160_AnyChangeOfAUserEndsEachSessionAndNoneBeginsForTheRowBefore) {
  User ada{.name = "ada", .role = "admin", .password = "p", .spki_sha256 = ""};
  store().users().add(ada);
  const std::vector<std::function<void(User&)>> changes{
      [](User& user) { user.password = "q"; }, [](User& user) { user.role = "auditor"; },
      [](User& user) { user.disabled = true; }, [](User& user) { user.disabled = false; },
      [](User& user) { user.spki_sha256 = "abc"; }};
  for (const auto& change : changes) {
    const LoginSession session{
        .hash = random_bytes(32), .user = "ada", .expires = at(1000), .used = kNow};
    ASSERT_TRUE(store().logins().add(session, ada));
    User after = ada;
    change(after);
    EXPECT_EQ(store().users().update(ada, after, sample_event()), 1);
    EXPECT_FALSE(store().logins().use(session.hash, kNow, kIdle));
    // The password was verified before the change, the session comes after it.
    EXPECT_FALSE(store().logins().add({random_bytes(32), "ada", at(1000), kNow}, ada));
    ada = after;
  }
}

TEST_P(StoredUsers, Fault160_ASessionEndsWhenItIsNotUsed) {
  const User ada{.name = "ada", .role = "admin", .password = "p", .spki_sha256 = ""};
  store().users().add(ada);
  const LoginSession session{.hash = random_bytes(32),
                             .user = "ada",
                             .expires = kNow + std::chrono::hours(8),
                             .used = kNow};
  store().logins().add(session, ada);
  auto now = kNow;
  for (int i = 0; i < 6; ++i) {
    now += kIdle / 2;
    EXPECT_TRUE(store().logins().use(session.hash, now, kIdle));
  }
  EXPECT_FALSE(store().logins().use(session.hash, now + kIdle, kIdle));
  EXPECT_EQ(store().logins().remove_all("ada", sample_event()), 1);
}

TEST_P(StoredUsers, ForgettingTheExpiredLeavesWhatIsValidOrWasUsed) {
  const User ada{.name = "ada", .role = "admin", .password = "", .spki_sha256 = ""};
  store().users().add(ada);
  const Bytes old_login = random_bytes(32), new_login = random_bytes(32);
  const Bytes used = random_bytes(32), unused = random_bytes(32), fresh = random_bytes(32);
  store().logins().add({old_login, "ada", kNow, kNow}, ada);
  store().logins().add({new_login, "ada", kNow + std::chrono::seconds(1), kNow}, ada);
  store().enrollments().add_token(token_of(used, kNow));
  store().enrollments().add_token(token_of(unused, kNow));
  store().enrollments().add_token(token_of(fresh, kNow + std::chrono::seconds(1)));
  ASSERT_TRUE(use_token(store(), used, "host-1", at(0)));
  store().forget_expired(kNow);
  EXPECT_FALSE(store().logins().use(old_login, at(0), kIdle));
  EXPECT_TRUE(store().logins().use(new_login, at(0), kIdle));
  EXPECT_FALSE(use_token(store(), unused, "host-2", at(0)));
  EXPECT_TRUE(use_token(store(), fresh, "host-2", at(0)));
  EXPECT_EQ(code_of([&] { store().enrollments().add_token(token_of(used, kNow)); }), Code::kExists);
}

}  // namespace
}  // namespace keyagent::store
