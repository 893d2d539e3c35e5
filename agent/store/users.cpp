#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelect = "SELECT name, role, password, spki_sha256, disabled FROM users ";

User user_of(const Row& row) {
  return {.name = row.text(0),
          .role = row.text(1),
          .password = row.text(2),
          .spki_sha256 = row.text(3),
          .disabled = row.flag(4)};
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

bool Store::update_user(const User& user) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "UPDATE users SET role = :role, password = :password, spki_sha256 = :spki, "
               "disabled = :disabled WHERE name = :name",
               {{"role", user.role},
                {"password", user.password},
                {"spki", user.spki_sha256},
                {"disabled", user.disabled},
                {"name", user.name}}) == 1;
  });
}

std::optional<User> Store::user(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelect + "WHERE name = :name", {{"name", name}}, user_of);
  });
}

std::vector<User> Store::users() {
  return impl_->db.read([](Sql& sql) { return sql.all(kSelect + "ORDER BY name", {}, user_of); });
}

void Store::add_login(const LoginSession& session) {
  impl_->db.write([&](Sql& sql) {
    sql.run("INSERT INTO logins (hash, user_name, expires) VALUES (:hash, :user, :expires)",
            {{"hash", session.hash}, {"user", session.user}, {"expires", session.expires}});
  });
}

std::optional<LoginSession> Store::login(const Bytes& hash, WallTime now) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(
        "SELECT l.hash, l.user_name, l.expires FROM logins l JOIN users u ON u.name = l.user_name "
        "WHERE l.hash = :hash AND l.expires > :now AND u.disabled = 0",
        {{"hash", hash}, {"now", now}}, [](const Row& row) {
          return LoginSession{.hash = row.bytes(0), .user = row.text(1), .expires = row.time(2)};
        });
  });
}

void Store::remove_login(const Bytes& hash) {
  impl_->db.write([&](Sql& sql) {
    sql.run("DELETE FROM logins WHERE hash = :hash", {{"hash", hash}});
  });
}

void Store::add_login_failure(const std::string& name, WallTime now, WallTime expires) {
  impl_->db.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO login_failures (name, failures, expires) VALUES (:name, 1, :expires) "
        "ON CONFLICT (name) DO UPDATE SET expires = excluded.expires, failures = "
        "CASE WHEN login_failures.expires <= :now THEN 1 ELSE login_failures.failures + 1 END",
        {{"name", name}, {"expires", expires}, {"now", now}});
  });
}

std::int64_t Store::login_failures(const std::string& name, WallTime now) {
  return impl_->db
      .read([&](Sql& sql) {
        return sql.first(
            "SELECT failures FROM login_failures WHERE name = :name AND expires > :now",
            {{"name", name}, {"now", now}}, [](const Row& row) { return row.number(0); });
      })
      .value_or(0);
}

}  // namespace keyagent::store
