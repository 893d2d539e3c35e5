// SPDX-License-Identifier: Apache-2.0
#include "agent/store/users.h"

#include <algorithm>

#include "agent/base/error.h"
#include "agent/store/data_tables.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

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

}  // namespace

bool Users::add(const User& user) {
  return db_.write([&](Sql& sql) {
    return sql.run(kUsers.insert() + "ON CONFLICT (name) DO NOTHING", kUsers.all(user)) == 1;
  });
}

std::optional<std::int64_t> Users::update(const User& before, const User& after, const Event& event,
                                          const RoleFloor& floor) {
  return db_.write([&](Sql& sql) -> std::optional<std::int64_t> {
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

std::optional<User> Users::find(const std::string& name) {
  return db_.read([&](Sql& sql) {
    return sql.first(kUsers.select() + "WHERE name = :name", {{"name", name}}, kUsers);
  });
}

std::vector<User> Users::all() {
  return db_.read([](Sql& sql) { return sql.all(kUsers.select() + "ORDER BY name", {}, kUsers); });
}

}  // namespace keyagent::store
