// SPDX-License-Identifier: Apache-2.0
// Re-encryption of a specification's records: who works at it, and how far it is. The checkpoint
// and what it is about are written in one transaction, under the fence of anyone who works at it.

#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectReencryptions =
    "SELECT specification, state, started_by, body, rate, total, done, failed, kid, position, "
    "started, changed, since, since_done, holder, lease_until, fence FROM reencryptions ";

Reencryption reencryption_of(const Row& row) {
  return {.specification = row.text(0),
          .state = row.text(1),
          .started_by = row.text(2),
          .text = row.text(3),
          .rate = row.number(4),
          .total = row.number(5),
          .done = row.number(6),
          .failed = row.number(7),
          .kid = row.text(8),
          .position = row.text(9),
          .started = row.time(10),
          .changed = row.time(11),
          .since = row.time(12),
          .since_done = row.number(13),
          .holder = row.text(14),
          .lease_until = row.time(15),
          .fence = row.number(16)};
}

Bounds all_of(const Reencryption& job) {
  return {{"specification", job.specification},
          {"state", job.state},
          {"started_by", job.started_by},
          {"body", storable(job.text)},
          {"rate", job.rate},
          {"total", job.total},
          {"done", job.done},
          {"failed", job.failed},
          {"kid", job.kid},
          {"position", job.position},
          {"started", job.started},
          {"changed", job.changed},
          {"since", job.since},
          {"since_done", job.since_done},
          {"holder", job.holder},
          {"lease_until", job.lease_until},
          {"fence", job.fence}};
}

constexpr const char* kSet =
    "UPDATE reencryptions SET state = :state, started_by = :started_by, body = :body, "
    "rate = :rate, total = :total, done = :done, failed = :failed, kid = :kid, "
    "position = :position, started = :started, changed = :changed, since = :since, "
    "since_done = :since_done, holder = :holder, lease_until = :lease_until, ";

std::optional<Reencryption> find_reencryption(Sql& sql, const std::string& specification) {
  return sql.first(kSelectReencryptions + "WHERE specification = :specification",
                   {{"specification", specification}}, reencryption_of);
}

bool move(Sql& sql, const Reencryption& job) {
  return sql.run(std::string(kSet) +
                     "fence = fence + 1 WHERE specification = :specification AND fence = :fence",
                 all_of(job)) == 1;
}

}  // namespace

bool Store::begin_reencryption(const Reencryption& job, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    const bool begun =
        sql.run(
            "INSERT INTO reencryptions (specification, state, started_by, body, rate, total, "
            "done, failed, kid, position, started, changed, since, since_done, holder, "
            "lease_until, fence) VALUES (:specification, :state, :started_by, :body, :rate, "
            ":total, :done, :failed, :kid, :position, :started, :changed, :since, :since_done, "
            ":holder, :lease_until, :fence) ON CONFLICT (specification) DO UPDATE SET "
            "state = excluded.state, started_by = excluded.started_by, body = excluded.body, "
            "rate = excluded.rate, total = excluded.total, done = excluded.done, "
            "failed = excluded.failed, kid = excluded.kid, position = excluded.position, "
            "started = excluded.started, changed = excluded.changed, since = excluded.since, "
            "since_done = excluded.since_done, holder = excluded.holder, "
            "lease_until = excluded.lease_until, fence = reencryptions.fence + 1 "
            "WHERE reencryptions.state NOT IN ('running', 'paused')",
            all_of(job)) == 1;
    if (begun) insert_event(sql, event);
    return begun;
  });
}

std::optional<Reencryption> Store::reencryption(const std::string& specification) {
  return impl_->db.read([&](Sql& sql) { return find_reencryption(sql, specification); });
}

std::vector<Reencryption> Store::reencryptions() {
  return impl_->db.read([](Sql& sql) {
    return sql.all(kSelectReencryptions + "ORDER BY specification", {}, reencryption_of);
  });
}

std::optional<Reencryption> Store::claim_reencryption(const std::string& holder, WallTime now,
                                                      std::chrono::milliseconds life) {
  constexpr const char* kFree =
      "state = 'running' AND (holder = '' OR lease_until <= :now OR lease_until > :latest)";
  // No lease lasts longer, whatever the clock was that gave it; replicas' clocks differ a little.
  const Bounds when{{"now", now}, {"latest", now + 2 * life}};
  const auto free = impl_->db.read([&](Sql& sql) {
    return sql.first(kSelectReencryptions + "WHERE " + kFree + " ORDER BY specification LIMIT 1",
                     when, reencryption_of);
  });
  if (!free) return std::nullopt;
  auto job = *free;
  job.holder = holder;
  job.lease_until = now + life;
  job.since = now;
  job.since_done = job.done;
  if (!impl_->db.write([&](Sql& sql) { return move(sql, job); })) return std::nullopt;
  job.fence += 1;
  return job;
}

bool Store::move_reencryption(const Reencryption& job, const std::optional<Event>& event) {
  return impl_->db.write([&](Sql& sql) {
    if (!move(sql, job)) return false;
    if (event) insert_event(sql, *event);
    return true;
  });
}

// The job's row first: anyone who has taken it, paused it or ended it meanwhile is seen before a
// record is touched, and waits from here on.
std::optional<std::int64_t> Store::write_reencrypted(const Reencryption& job,
                                                     const std::vector<Replacement>& replacements) {
  return impl_->db.write([&](Sql& sql) -> std::optional<std::int64_t> {
    const auto bounds = all_of(job);
    if (sql.run(std::string(kSet) +
                    "fence = fence WHERE specification = :specification AND fence = :fence",
                bounds) != 1)
      return std::nullopt;
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
}

}  // namespace keyagent::store
