// SPDX-License-Identifier: Apache-2.0
// Records: one envelope a row, each naming the key that opens it. A removed one keeps its row
// without envelope and key, so that its versions continue.

#include "agent/store/records.h"

#include "agent/store/data_tables.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

// Without envelopes, which may be large.
std::string select_short_records() {
  return kRecords.select({"envelope"});
}

struct RecordStatus {
  std::int64_t version = 0;  // of the row; 0: there is none
  bool there = false;
};

RecordStatus status_of(Sql& sql, const std::string& specification, const std::string& id) {
  const auto row = sql.first<std::int64_t, std::string>(
      "SELECT version, kid FROM records WHERE specification = :specification AND id = :id",
      {{"specification", specification}, {"id", id}});
  return row ? RecordStatus{row->first, !row->second.empty()} : RecordStatus{};
}

// Writes it over the row that has `version`, or as a new one. False: a concurrent change was made.
bool write(Sql& sql, const Record& record, std::int64_t version) {
  auto written = record;
  if (version == 0) {
    written.version = 1;
    return sql.run(kRecords.insert() + "ON CONFLICT (specification, id) DO NOTHING",
                   kRecords.all(written)) == 1;
  }
  written.version = version;
  return sql.run(kRecords.update() +
                     ", version = version + 1 "
                     "WHERE specification = :specification AND id = :id AND version = :version",
                 kRecords.changes(written, {"specification", "id", "version"})) == 1;
}

}  // namespace

bool takes_records(Sql& sql, const std::string& kid) {
  const auto closed = sql.first<bool>(
      std::string("SELECT closed FROM data_keys WHERE kid = :kid") + sql.for_share(),
      {{"kid", kid}});
  return closed && !*closed;
}

RecordPut Records::put(const Record& record, const std::optional<std::int64_t>& expected) {
  return db_.write([&](Sql& sql) -> RecordPut {
    using Outcome = RecordPut::Outcome;
    for (;;) {
      if (!takes_records(sql, record.kid)) return {Outcome::kClosed, 0};
      const auto now = status_of(sql, record.specification, record.id);
      const auto seen = now.there ? now.version : 0;
      if (expected && *expected != seen) return {Outcome::kConflict, seen};
      if (record.version != 0 && record.version != now.version + 1)
        return {Outcome::kMoved, now.version};
      if (write(sql, record, now.version)) return {Outcome::kDone, now.version + 1};
    }
  });
}

std::optional<Record> Records::find(const std::string& specification, const std::string& id) {
  return db_.read([&](Sql& sql) {
    return sql.first(
        kRecords.select() + "WHERE specification = :specification AND id = :id AND kid <> ''",
        {{"specification", specification}, {"id", id}}, kRecords);
  });
}

std::int64_t Records::version(const std::string& specification, const std::string& id) {
  return db_.read([&](Sql& sql) { return status_of(sql, specification, id).version; });
}

bool Records::replace_envelope(const Record& record, const Record& fresh) {
  return db_.write([&](Sql& sql) {
    return takes_records(sql, fresh.kid) &&
           sql.run(
               "UPDATE records SET envelope = :envelope, kid = :kid "
               "WHERE specification = :specification AND id = :id AND version = :version "
               "AND envelope = :old_envelope",
               {{"envelope", fresh.envelope},
                {"kid", fresh.kid},
                {"specification", record.specification},
                {"id", record.id},
                {"version", record.version},
                {"old_envelope", record.envelope}}) == 1;
  });
}

std::vector<Record> Records::list(const std::string& specification, const std::string& after,
                                  std::size_t count) {
  return db_.read([&](Sql& sql) {
    return sql.all(select_short_records() +
                       "WHERE specification = :specification AND id > :after AND kid <> '' "
                       "ORDER BY id LIMIT :count",
                   {{"specification", specification}, {"after", after}, {"count", count}},
                   kRecords);
  });
}

std::vector<Record> Records::list_under(const std::string& specification, const std::string& kid,
                                        const std::string& after, std::size_t count) {
  return db_.read([&](Sql& sql) {
    return sql.all(
        kRecords.select() +
            "WHERE specification = :specification AND kid = :kid AND id > :after "
            "ORDER BY id LIMIT :count",
        {{"specification", specification}, {"kid", kid}, {"after", after}, {"count", count}},
        kRecords);
  });
}

bool Records::remove(const std::string& specification, const std::string& id, const Event& event) {
  return db_.write([&](Sql& sql) {
    const bool removed = sql.run(
                             "UPDATE records SET kid = '', envelope = '', version = version + 1 "
                             "WHERE specification = :specification AND id = :id AND kid <> ''",
                             {{"specification", specification}, {"id", id}}) == 1;
    if (removed) insert_event(sql, event);
    return removed;
  });
}

std::vector<std::pair<std::string, std::int64_t>> Records::count_by_kid(
    const std::string& specification) {
  return db_.read([&](Sql& sql) {
    return sql.all<std::string, std::int64_t>(
        "SELECT kid, count(*) FROM records WHERE specification = :specification AND kid <> '' "
        "GROUP BY kid ORDER BY kid",
        {{"specification", specification}});
  });
}

}  // namespace keyagent::store
