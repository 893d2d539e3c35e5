// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "agent/base/error.h"
#include "agent/store/data_tables.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

constexpr Column<LoginSession> kLoginColumns[] = {
    column<&LoginSession::hash>("hash").key(),
    column<&LoginSession::user>("user_name").fixed(),
    column<&LoginSession::expires>("expires").fixed(),
    column<&LoginSession::used>("used"),
};
constexpr Table<LoginSession> kLogins{"logins", kLoginColumns};

bool counts_for(const RoleFloor& floor, const User& user) {
  return user.role == floor.role && !user.disabled;
}

// Locks all that count: of two that leave at the same time, the second finds one fewer.
void require_floor(Sql& sql, const RoleFloor& floor, const User& before, const User& after) {
  if (floor.count == 0 || !counts_for(floor, before) || counts_for(floor, after)) return;
  const auto all = sql.all(
      kUsers.select() + "WHERE role = :role AND disabled = 0 ORDER BY name" + sql.for_update(),
      {{"role", floor.role}}, kUsers);
  const auto others = std::count_if(all.begin(), all.end(),
                                    [&](const User& each) { return each.name != before.name; });
  if (others < floor.count)
    throw Error(Code::kKeyState, "fewer than " + std::to_string(floor.count) +
                                     " enabled users would have the role " + floor.role);
}

std::int64_t end_logins(Sql& sql, const std::string& user) {
  return sql.run("DELETE FROM logins WHERE user_name = :user", {{"user", user}});
}

}  // namespace

bool Store::add_user(const User& user) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(kUsers.insert() + "ON CONFLICT (name) DO NOTHING", kUsers.all(user)) == 1;
  });
}

std::optional<std::int64_t> Store::update_user(const User& before, const User& after,
                                               const Event& event, const RoleFloor& floor) {
  return impl_->db.write([&](Sql& sql) -> std::optional<std::int64_t> {
    require_floor(sql, floor, before, after);
    auto bounds = kUsers.changes(after, {});
    for (auto& each : kUsers.old(before)) bounds.push_back(std::move(each));
    const auto changed = sql.run(kUsers.update() + " WHERE " + kUsers.equals_old(), bounds);
    if (changed != 1) return std::nullopt;
    // Anyone who added a session for the row as it was did so before this transaction had the row.
    const auto ended = end_logins(sql, before.name);
    insert_event(sql, event);
    return ended;
  });
}

std::optional<User> Store::user(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kUsers.select() + "WHERE name = :name", {{"name", name}}, kUsers);
  });
}

std::vector<User> Store::users() {
  return impl_->db.read(
      [](Sql& sql) { return sql.all(kUsers.select() + "ORDER BY name", {}, kUsers); });
}

bool Store::add_login(const LoginSession& session, const User& checked) {
  return impl_->db.write([&](Sql& sql) {
    const auto now = sql.first(kUsers.select() + "WHERE name = :name" + sql.for_share(),
                               {{"name", checked.name}}, kUsers);
    if (!now || *now != checked) return false;
    sql.run(kLogins.insert(), kLogins.all(session));
    return true;
  });
}

std::optional<User> Store::use_login(const Bytes& hash, WallTime now,
                                     std::chrono::milliseconds idle) {
  const auto found = impl_->db.read([&](Sql& sql) {
    return sql.first(
        "SELECT " + kUsers.list("u.") +
            ", l.used FROM logins l JOIN users u ON u.name = l.user_name "
            "WHERE l.hash = :hash AND l.expires > :now AND l.used > :idle AND u.disabled = 0",
        {{"hash", hash}, {"now", now}, {"idle", now - idle}}, [](Row& row) {
          auto user = kUsers(row);
          return std::pair(std::move(user), row.next<WallTime>());
        });
  });
  if (!found) return std::nullopt;
  // Not a write for each request: as exact as a sixteenth of the limit.
  if (now - found->second > idle / 16) {
    impl_->db.write([&](Sql& sql) {
      sql.run("UPDATE logins SET used = :now WHERE hash = :hash AND used < :now",
              {{"now", now}, {"hash", hash}});
    });
  }
  return found->first;
}

std::int64_t Store::remove_logins(const std::string& user, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const auto ended = end_logins(sql, user);
    insert_event(sql, event);
    return ended;
  });
}

void Store::remove_login(const Bytes& hash) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM logins WHERE hash = :hash", {{"hash", hash}});
  });
}

}  // namespace keyagent::store
