// SPDX-License-Identifier: Apache-2.0
#include "agent/store/rekeys.h"

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Rekey> kRekeyColumns[] = {
    column<&Rekey::id>("id").key(),           column<&Rekey::batch>("batch").fixed(),
    column<&Rekey::agent>("agent").fixed(),   column<&Rekey::key>("key_name").fixed(),
    column<&Rekey::state>("state"),           column<&Rekey::old_kid>("old_kid"),
    column<&Rekey::new_kid>("new_kid"),       column<&Rekey::ordered_by>("ordered_by").fixed(),
    escaped_column<&Rekey::detail>("detail"), column<&Rekey::ordered>("ordered").fixed(),
    column<&Rekey::changed>("changed"),       column<&Rekey::canary>("canary").fixed(),
};
constexpr Table<Rekey> kRekeys{"rekeys", kRekeyColumns};

// As in the index rekeys_open.
constexpr const char* kOpen = "state NOT IN ('confirmed', 'failed', 'cancelled')";

constexpr const char* kUnderWay = "state IN ('sent', 'staged')";

std::int64_t insert(Sql& sql, const Rekey& rekey) {
  auto numbered = rekey;
  numbered.id = sql.next_number("rekeys");
  sql.run(kRekeys.insert(), kRekeys.all(numbered));
  return numbered.id;
}

RekeyCounts counts_of(Sql& sql, const std::string& batch) {
  const auto those = [&](const std::string& which) {
    return sql.count("SELECT count(*) FROM rekeys WHERE batch = :batch AND " + which,
                     {{"batch", batch}});
  };
  return {those(kUnderWay), those("state = 'failed'"),
          those("state IN ('ordered', 'sent', 'staged') AND canary = 1")};
}

bool write_rekey(Sql& sql, const Rekey& rekey, const std::string& from) {
  auto bounds = kRekeys.changes(rekey, {"id"});
  bounds.push_back({"from_state", from});
  return sql.run(kRekeys.update() + " WHERE id = :id AND state = :from_state", bounds) == 1;
}

}  // namespace

std::int64_t Rekeys::add(const Rekey& rekey) {
  return db_.write([&](Sql& sql) -> std::int64_t { return insert(sql, rekey); });
}

void Rekeys::add_batch(const std::vector<Rekey>& rekeys, const std::string& setting,
                       const std::string& value) {
  db_.write([&](Sql& sql) {
    sql.run("INSERT INTO settings (name, value) VALUES (:name, :value)",
            {{"name", setting}, {"value", value}});
    for (const auto& each : rekeys) insert(sql, each);
  });
}

std::vector<Rekey> Rekeys::of_batch(const std::string& batch) {
  return db_.read([&](Sql& sql) {
    return sql.all(kRekeys.select() + "WHERE batch = :batch ORDER BY id", {{"batch", batch}},
                   kRekeys);
  });
}

std::optional<Rekey> Rekeys::find(std::int64_t id) {
  return db_.read([&](Sql& sql) {
    return sql.first(kRekeys.select() + "WHERE id = :id", {{"id", id}}, kRekeys);
  });
}

std::vector<Rekey> Rekeys::list(const std::string& agent, bool open_only) {
  std::string query = kRekeys.select() + "WHERE " + (open_only ? kOpen : "1 = 1");
  return db_.read([&](Sql& sql) {
    if (agent.empty()) return sql.all(query + " ORDER BY id", {}, kRekeys);
    return sql.all(query + " AND agent = :agent ORDER BY id", {{"agent", agent}}, kRekeys);
  });
}

std::vector<Rekey> Rekeys::sent(const std::string& agent) {
  const std::string query = kRekeys.select() + "WHERE " + kOpen + " AND " + kUnderWay;
  return db_.read([&](Sql& sql) {
    if (agent.empty()) return sql.all(query + " ORDER BY id", {}, kRekeys);
    return sql.all(query + " AND agent = :agent ORDER BY id", {{"agent", agent}}, kRekeys);
  });
}

std::vector<std::string> Rekeys::ordered_batches() {
  return db_.read([&](Sql& sql) {
    return sql.all<std::string>(std::string("SELECT DISTINCT batch FROM rekeys WHERE ") + kOpen +
                                " AND state = 'ordered'");
  });
}

RekeyCounts Rekeys::count(const std::string& batch) {
  return db_.read([&](Sql& sql) { return counts_of(sql, batch); });
}

std::vector<Rekey> Rekeys::ready(const std::string& batch, const std::string& replica,
                                 bool canaries, std::size_t count) {
  return db_.read([&](Sql& sql) {
    return sql.all(kRekeys.select() +
                       "WHERE batch = :batch AND state = 'ordered' AND canary >= :canary AND "
                       "EXISTS (SELECT 1 FROM links WHERE links.agent = rekeys.agent AND "
                       "links.replica = :replica) ORDER BY id LIMIT :count",
                   {{"batch", batch}, {"canary", canaries}, {"replica", replica}, {"count", count}},
                   kRekeys);
  });
}

bool Rekeys::move(const Rekey& rekey, const std::string& from) {
  return db_.write([&](Sql& sql) { return write_rekey(sql, rekey, from); });
}

bool Rekeys::confirm(const Rekey& rekey, const std::string& from) {
  return db_.write([&](Sql& sql) {
    const auto agent = agent_in(sql, rekey.agent, sql.for_share());
    if (!agent || agent->state != "trusted" || rekey.new_kid == rekey.old_kid ||
        rekey.new_kid != (rekey.key == "auth" ? agent->auth_kid : agent->transport_kid))
      return false;
    return write_rekey(sql, rekey, from);
  });
}

// The batch's first row is its lock: replicas that claim for one batch do so one after the other,
// and what is counted then has all that the one before has claimed.
std::vector<Rekey> Rekeys::claim(const std::string& batch, const std::vector<Rekey>& wanted,
                                 std::int64_t most, WallTime now) {
  return db_.write([&](Sql& sql) {
    sql.run(
        "UPDATE rekeys SET batch = batch "
        "WHERE id = (SELECT min(id) FROM rekeys WHERE batch = :batch)",
        {{"batch", batch}});
    auto counts = counts_of(sql, batch);
    std::vector<Rekey> claimed;
    for (const auto& each : wanted) {
      if (counts.failed > 0 || counts.under_way >= most) break;
      if (!each.canary && counts.open_canaries > 0) continue;
      const auto changed = sql.run(
          "UPDATE rekeys SET state = 'sent', changed = :now "
          "WHERE id = :id AND batch = :batch AND state = 'ordered' AND NOT EXISTS (SELECT 1 "
          "FROM agents WHERE agents.id = rekeys.agent "
          "AND agents.state IN ('suspended', 'revoked', 'rejected'))",
          {{"now", now}, {"id", each.id}, {"batch", batch}});
      if (changed != 1) continue;
      ++counts.under_way;
      claimed.push_back(each);
      claimed.back().state = "sent";
      claimed.back().changed = now;
    }
    return claimed;
  });
}

}  // namespace keyagent::store
