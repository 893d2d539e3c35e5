// SPDX-License-Identifier: Apache-2.0
// Specifications of data, and the keys under which their records are.

#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectSpecifications =
    "SELECT name, access, created_by, changed_by, created, changed, revision FROM specifications ";

Specification specification_of(const Row& row) {
  return {.name = row.text(0),
          .access = row.text(1),
          .created_by = row.text(2),
          .changed_by = row.text(3),
          .created = row.time(4),
          .changed = row.time(5),
          .revision = row.number(6)};
}

}  // namespace

bool Store::add_specification(const Specification& s, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const bool added = sql.run(
                           "INSERT INTO specifications (name, access, created_by, changed_by, "
                           "created, changed, revision) VALUES (:name, :access, :created_by, "
                           ":changed_by, :created, :changed, 1) ON CONFLICT (name) DO NOTHING",
                           {{"name", s.name},
                            {"access", s.access},
                            {"created_by", s.created_by},
                            {"changed_by", s.changed_by},
                            {"created", s.created},
                            {"changed", s.changed}}) == 1;
    if (added) insert_event(sql, event);
    return added;
  });
}

std::optional<Specification> Store::specification(const std::string& name) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelectSpecifications + "WHERE name = :name", {{"name", name}},
                     specification_of);
  });
}

std::vector<Specification> Store::specifications() {
  return impl_->db.read([](Sql& sql) {
    return sql.all(kSelectSpecifications + "ORDER BY name", {}, specification_of);
  });
}

bool Store::update_specification(const Specification& s, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const bool changed =
        sql.run(
            "UPDATE specifications SET access = :access, changed_by = :changed_by, "
            "changed = :changed, revision = revision + 1 "
            "WHERE name = :name AND revision = :revision",
            {{"access", s.access},
             {"changed_by", s.changed_by},
             {"changed", s.changed},
             {"name", s.name},
             {"revision", s.revision}}) == 1;
    if (changed) insert_event(sql, event);
    return changed;
  });
}

bool Store::note_data_key(const DataKey& key) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "INSERT INTO data_keys (kid, specification, source, noted, closed) "
               "VALUES (:kid, :specification, :source, :noted, 0) ON CONFLICT (kid) DO NOTHING",
               {{"kid", key.kid},
                {"specification", key.specification},
                {"source", key.source},
                {"noted", key.noted}}) == 1;
  });
}

std::vector<DataKey> Store::data_keys(const std::string& specification) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        "SELECT kid, specification, source, noted, closed FROM data_keys "
        "WHERE specification = :specification ORDER BY noted, kid",
        {{"specification", specification}}, [](const Row& row) {
          return DataKey{row.text(0), row.text(1), row.text(2), row.time(3), row.flag(4)};
        });
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
