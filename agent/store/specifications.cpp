// SPDX-License-Identifier: Apache-2.0
#include "agent/store/specifications.h"

#include "agent/store/data_tables.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
bool Specifications::add(const Specification& s, const Event& event) {
  return db_.write([&](Sql& sql) {
    auto first = s;
    first.revision = 1;
    const bool added = sql.run(kSpecifications.insert() + "ON CONFLICT (name) DO NOTHING",
                               kSpecifications.all(first)) == 1;
    if (added) insert_event(sql, event);
    return added;
  });
}

std::optional<Specification> Specifications::find(const std::string& name) {
  return db_.read([&](Sql& sql) {
    return sql.first(kSpecifications.select() + "WHERE name = :name", {{"name", name}},
                     kSpecifications);
  });
}

std::vector<Specification> Specifications::all() {
  return db_.read([](Sql& sql) {
    return sql.all(kSpecifications.select() + "ORDER BY name", {}, kSpecifications);
  });
}

bool Specifications::update(const Specification& s, const Event& event) {
  return db_.write([&](Sql& sql) {
    const bool changed =
        sql.run(kSpecifications.update() +
                    ", revision = revision + 1 WHERE name = :name AND revision = :revision",
                kSpecifications.changes(s, {"name", "revision"})) == 1;
    if (changed) insert_event(sql, event);
    return changed;
  });
}

}  // namespace keyagent::store
