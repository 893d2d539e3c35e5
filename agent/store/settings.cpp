// SPDX-License-Identifier: Apache-2.0
#include "agent/store/settings.h"

#include "agent/store/engine/database.h"

namespace keyagent::store {

std::optional<std::string> Settings::get(const std::string& name) {
  return db_.read([&](Sql& sql) {
    return sql.first<std::string>("SELECT value FROM settings WHERE name = :name",
                                  {{"name", name}});
  });
}

void Settings::set(const std::string& name, const std::string& value) {
  db_.write([&](Sql& sql) {
    sql.run(
        "INSERT INTO settings (name, value) VALUES (:name, :value) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        {{"name", name}, {"value", value}});
  });
}

bool Settings::set_once(const std::string& name, const std::string& value) {
  return db_.write([&](Sql& sql) {
    return sql.run(
               "INSERT INTO settings (name, value) VALUES (:name, :value) "
               "ON CONFLICT (name) DO NOTHING",
               {{"name", name}, {"value", value}}) == 1;
  });
}

}  // namespace keyagent::store
