// SPDX-License-Identifier: Apache-2.0
// Re-encryption of a specification's records: who works at it, and how far it is. The checkpoint
// and what it is about are written in one transaction, under the fence of anyone who works at it.

#include "agent/store/reencryptions.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Reencryption> kReencryptionColumns[] = {
    column<&Reencryption::specification>("specification").key(),
    column<&Reencryption::state>("state"),
    column<&Reencryption::started_by>("started_by"),
    escaped_column<&Reencryption::text>("body"),
    column<&Reencryption::rate>("rate"),
    column<&Reencryption::total>("total"),
    column<&Reencryption::done>("done"),
    column<&Reencryption::failed>("failed"),
    column<&Reencryption::kid>("kid"),
    column<&Reencryption::position>("position"),
    column<&Reencryption::started>("started"),
    column<&Reencryption::changed>("changed"),
    column<&Reencryption::since>("since"),
    column<&Reencryption::since_done>("since_done"),
    column<&Reencryption::holder>("holder"),
    column<&Reencryption::lease_until>("lease_until"),
    column<&Reencryption::fence>("fence").fixed(),
};
constexpr Table<Reencryption> kReencryptions{"reencryptions", kReencryptionColumns};

std::optional<Reencryption> find_reencryption(Sql& sql, const std::string& specification) {
  return sql.first(kReencryptions.select() + "WHERE specification = :specification",
                   {{"specification", specification}}, kReencryptions);
}

bool write_job(Sql& sql, const Reencryption& job) {
  return sql.run(kReencryptions.update() +
                     ", fence = fence + 1 "
                     "WHERE specification = :specification AND fence = :fence",
                 kReencryptions.changes(job, {"specification", "fence"})) == 1;
}

}  // namespace

bool Reencryptions::begin(const Reencryption& job, const Event& event) {
  return db_.write([&](Sql& sql) {
    const bool begun =
        sql.run(kReencryptions.insert() + "ON CONFLICT (specification) DO UPDATE SET " +
                    kReencryptions.excluded() +
                    ", fence = reencryptions.fence + 1 "
                    "WHERE reencryptions.state NOT IN ('running', 'paused')",
                kReencryptions.all(job)) == 1;
    if (begun) insert_event(sql, event);
    return begun;
  });
}

std::optional<Reencryption> Reencryptions::find(const std::string& specification) {
  return db_.read([&](Sql& sql) { return find_reencryption(sql, specification); });
}

std::vector<Reencryption> Reencryptions::all() {
  return db_.read([](Sql& sql) {
    return sql.all(kReencryptions.select() + "ORDER BY specification", {}, kReencryptions);
  });
}

std::optional<Reencryption> Reencryptions::claim(const std::string& holder, WallTime now,
                                                 std::chrono::milliseconds life) {
  constexpr const char* kFree =
      "state = 'running' AND (holder = '' OR lease_until <= :now OR lease_until > :latest)";
  // No lease lasts longer, whatever the clock was that gave it; replicas' clocks differ a little.
  const Bounds when{{"now", now}, {"latest", now + 2 * life}};
  const auto free = db_.read([&](Sql& sql) {
    return sql.first(kReencryptions.select() + "WHERE " + kFree + " ORDER BY specification LIMIT 1",
                     when, kReencryptions);
  });
  if (!free) return std::nullopt;
  auto job = *free;
  job.holder = holder;
  job.lease_until = now + life;
  job.since = now;
  job.since_done = job.done;
  if (!db_.write([&](Sql& sql) { return write_job(sql, job); })) return std::nullopt;
  job.fence += 1;
  return job;
}

bool Reencryptions::move(const Reencryption& job, const std::optional<Event>& event) {
  return db_.write([&](Sql& sql) {
    if (!write_job(sql, job)) return false;
    if (event) insert_event(sql, *event);
    return true;
  });
}

// The job's row first: anyone who has taken it, paused it or ended it meanwhile is seen before a
// record is touched, and waits from here on. The fence goes up here too: anyone who read the row
// before would otherwise write the earlier count over this one.
std::optional<std::int64_t> Reencryptions::write_records(
    Reencryption& job, const std::vector<Replacement>& replacements) {
  const auto written = db_.write([&](Sql& sql) -> std::optional<std::int64_t> {
    if (!write_job(sql, job)) return std::nullopt;
    std::int64_t replaced = 0;
    for (const auto& each : replacements) {
      if (!takes_records(sql, each.kid)) continue;
      replaced += sql.run(
          "UPDATE records SET envelope = :envelope, kid = :kid "
          "WHERE specification = :specification AND id = :id AND envelope = :old_envelope",
          {{"envelope", each.after},
           {"kid", each.kid},
           {"specification", job.specification},
           {"id", each.id},
           {"old_envelope", each.before}});
    }
    sql.run("UPDATE reencryptions SET done = done + :replaced WHERE specification = :specification",
            {{"replaced", replaced}, {"specification", job.specification}});
    return replaced;
  });
  if (written) {
    job.fence += 1;
    job.done += *written;
  }
  return written;
}

}  // namespace keyagent::store
