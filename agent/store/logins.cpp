// SPDX-License-Identifier: Apache-2.0
#include "agent/store/logins.h"

#include "agent/store/data_tables.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<LoginSession> kLoginColumns[] = {
    column<&LoginSession::hash>("hash").key(),
    column<&LoginSession::user>("user_name").fixed(),
    column<&LoginSession::expires>("expires").fixed(),
    column<&LoginSession::used>("used"),
};
constexpr Table<LoginSession> kLogins{"logins", kLoginColumns};

}  // namespace

std::int64_t end_logins(Sql& sql, const std::string& user) {
  return sql.run("DELETE FROM logins WHERE user_name = :user", {{"user", user}});
}

bool Logins::add(const LoginSession& session, const User& checked) {
  return db_.write([&](Sql& sql) {
    const auto now = sql.first(kUsers.select() + "WHERE name = :name" + sql.for_share(),
                               {{"name", checked.name}}, kUsers);
    if (!now || *now != checked) return false;
    sql.run(kLogins.insert(), kLogins.all(session));
    return true;
  });
}

std::optional<User> Logins::use(const Bytes& hash, WallTime now, std::chrono::milliseconds idle) {
  const auto found = db_.read([&](Sql& sql) {
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
    db_.write([&](Sql& sql) {
      sql.run("UPDATE logins SET used = :now WHERE hash = :hash AND used < :now",
              {{"now", now}, {"hash", hash}});
    });
  }
  return found->first;
}

std::int64_t Logins::remove_all(const std::string& user, const Event& event) {
  return db_.write([&](Sql& sql) {
    const auto ended = end_logins(sql, user);
    insert_event(sql, event);
    return ended;
  });
}

void Logins::remove(const Bytes& hash) {
  db_.write([&](Sql& sql) { sql.run("DELETE FROM logins WHERE hash = :hash", {{"hash", hash}}); });
}

}  // namespace keyagent::store
