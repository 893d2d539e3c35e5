// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "agent/base/error.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectUsers = "SELECT name, role, password, spki_sha256, disabled FROM users ";

User user_of(const Row& row) {
  return {.name = row.text(0),
          .role = row.text(1),
          .password = row.text(2),
          .spki_sha256 = row.text(3),
          .disabled = row.flag(4)};
}

bool counts_for(const RoleFloor& floor, const User& user) {
  return user.role == floor.role && !user.disabled;
}

// Locks all that count: of two that leave at the same time, the second finds one fewer.
void require_floor(Sql& sql, const RoleFloor& floor, const User& before, const User& after) {
  if (floor.count == 0 || !counts_for(floor, before) || counts_for(floor, after)) return;
  const auto all =
      sql.all(kSelectUsers + "WHERE role = :role AND disabled = 0 ORDER BY name" + sql.for_update(),
              {{"role", floor.role}}, user_of);
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
    return sql.run(
               "INSERT INTO users (name, role, password, spki_sha256, disabled) "
               "VALUES (:name, :role, :password, :spki, :disabled) ON CONFLICT (name) DO NOTHING",
               {{"name", user.name},
                {"role", user.role},
                {"password", user.password},
                {"spki", user.spki_sha256},
                {"disabled", user.disabled}}) == 1;
  });
}

std::optional<std::int64_t> Store::update_user(const User& before, const User& after,
                                               const Event& event, const RoleFloor& floor) {
  return impl_->db.write([&](Sql& sql) -> std::optional<std::int64_t> {
    require_floor(sql, floor, before, after);
    const auto changed = sql.run(
        "UPDATE users SET role = :role, password = :password, spki_sha256 = :spki, "
        "disabled = :disabled WHERE name = :name AND role = :old_role AND "
        "password = :old_password AND spki_sha256 = :old_spki AND disabled = :old_disabled",
        {{"role", after.role},
         {"password", after.password},
         {"spki", after.spki_sha256},
         {"disabled", after.disabled},
         {"name", before.name},
         {"old_role", before.role},
         {"old_password", before.password},
         {"old_spki", before.spki_sha256},
         {"old_disabled", before.disabled}});
    if (changed != 1) return std::nullopt;
    // Anyone who added a session for the row as it was did so before this transaction had the row.
    const auto ended = end_logins(sql, before.name);
    insert_event(sql, event);
    return ended;
  });
}

std::optional<User> Store::user(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelectUsers + "WHERE name = :name", {{"name", name}}, user_of);
  });
}

std::vector<User> Store::users() {
  return impl_->db.read(
      [](Sql& sql) { return sql.all(kSelectUsers + "ORDER BY name", {}, user_of); });
}

bool Store::add_login(const LoginSession& session, const User& checked) {
  return impl_->db.write([&](Sql& sql) {
    const auto now = sql.first(kSelectUsers + "WHERE name = :name" + sql.for_share(),
                               {{"name", checked.name}}, user_of);
    if (!now || *now != checked) return false;
    sql.run(
        "INSERT INTO logins (hash, user_name, expires, used) VALUES (:hash, :user, :expires, "
        ":used)",
        {{"hash", session.hash},
         {"user", session.user},
         {"expires", session.expires},
         {"used", session.used}});
    return true;
  });
}

std::optional<User> Store::use_login(const Bytes& hash, WallTime now,
                                     std::chrono::milliseconds idle) {
  struct Found {
    User user;
    WallTime used;
  };
  const auto found = impl_->db.read([&](Sql& sql) {
    return sql.first(
        "SELECT u.name, u.role, u.password, u.spki_sha256, u.disabled, l.used FROM logins l "
        "JOIN users u ON u.name = l.user_name "
        "WHERE l.hash = :hash AND l.expires > :now AND l.used > :idle AND u.disabled = 0",
        {{"hash", hash}, {"now", now}, {"idle", now - idle}}, [](const Row& row) {
          return Found{user_of(row), row.time(5)};
        });
  });
  if (!found) return std::nullopt;
  // Not a write for each request: as exact as a sixteenth of the limit.
  if (now - found->used > idle / 16) {
    impl_->db.write([&](Sql& sql) {
      sql.run("UPDATE logins SET used = :now WHERE hash = :hash AND used < :now",
              {{"now", now}, {"hash", hash}});
    });
  }
  return found->user;
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
