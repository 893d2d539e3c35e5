// SPDX-License-Identifier: Apache-2.0
// Specifications of data, and the keys under which their records are.

#include "agent/store/data_tables.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
bool Store::add_specification(const Specification& s, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    auto first = s;
    first.revision = 1;
    const bool added = sql.run(kSpecifications.insert() + "ON CONFLICT (name) DO NOTHING",
                               kSpecifications.all(first)) == 1;
    if (added) insert_event(sql, event);
    return added;
  });
}

std::optional<Specification> Store::specification(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSpecifications.select() + "WHERE name = :name", {{"name", name}},
                     kSpecifications);
  });
}

std::vector<Specification> Store::specifications() {
  return impl_->db.read([](Sql& sql) {
    return sql.all(kSpecifications.select() + "ORDER BY name", {}, kSpecifications);
  });
}

bool Store::update_specification(const Specification& s, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const bool changed =
        sql.run(kSpecifications.update() +
                    ", revision = revision + 1 WHERE name = :name AND revision = :revision",
                kSpecifications.changes(s, {"name", "revision"})) == 1;
    if (changed) insert_event(sql, event);
    return changed;
  });
}

bool Store::note_data_key(const DataKey& key) {
  return impl_->db.write([&](Sql& sql) {
    auto open = key;
    open.closed = false;
    return sql.run(kDataKeys.insert() + "ON CONFLICT (kid) DO NOTHING", kDataKeys.all(open)) == 1;
  });
}

std::vector<DataKey> Store::data_keys(const std::string& specification) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(kDataKeys.select() + "WHERE specification = :specification ORDER BY noted, kid",
                   {{"specification", specification}}, kDataKeys);
  });
}

// Waits for the records that are on their way under the key: put_record() holds its row.
bool Store::close_data_key(const std::string& kid) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run("UPDATE data_keys SET closed = 1 WHERE kid = :kid AND closed = 0",
                   {{"kid", kid}}) == 1;
  });
}

}  // namespace keyagent::store
