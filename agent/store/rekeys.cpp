#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelect =
    "SELECT id, batch, agent, key_name, state, old_kid, new_kid, ordered_by, detail, ordered, "
    "changed, canary FROM rekeys ";
// As in the index rekeys_open.
constexpr const char* kOpen = "state NOT IN ('confirmed', 'failed', 'cancelled')";

Rekey rekey_of(const Row& row) {
  return {.id = row.number(0),
          .batch = row.text(1),
          .agent = row.text(2),
          .key = row.text(3),
          .state = row.text(4),
          .old_kid = row.text(5),
          .new_kid = row.text(6),
          .ordered_by = row.text(7),
          .detail = row.text(8),
          .ordered = row.time(9),
          .changed = row.time(10),
          .canary = row.flag(11)};
}

}  // namespace

std::int64_t Store::add_rekey(const Rekey& rekey) {
  return impl_->db.write([&](Sql& sql) -> std::int64_t {
    const auto id = sql.next_number("rekeys");
    sql.run(
        "INSERT INTO rekeys (id, batch, agent, key_name, state, old_kid, new_kid, ordered_by, "
        "detail, ordered, changed, canary) VALUES (:id, :batch, :agent, :key, :state, :old_kid, "
        ":new_kid, :ordered_by, :detail, :ordered, :changed, :canary)",
        {{"id", id},
         {"batch", rekey.batch},
         {"agent", rekey.agent},
         {"key", rekey.key},
         {"state", rekey.state},
         {"old_kid", rekey.old_kid},
         {"new_kid", rekey.new_kid},
         {"ordered_by", rekey.ordered_by},
         {"detail", storable(rekey.detail)},
         {"ordered", rekey.ordered},
         {"changed", rekey.changed},
         {"canary", rekey.canary}});
    return id;
  });
}

std::optional<Rekey> Store::rekey(std::int64_t id) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelect + "WHERE id = :id", {{"id", id}}, rekey_of);
  });
}

std::vector<Rekey> Store::rekeys(const std::string& agent, bool open_only) {
  std::string query = kSelect + "WHERE " + (open_only ? kOpen : "1 = 1");
  return impl_->db.read([&](Sql& sql) {
    if (agent.empty()) return sql.all(query + " ORDER BY id", {}, rekey_of);
    return sql.all(query + " AND agent = :agent ORDER BY id", {{"agent", agent}}, rekey_of);
  });
}

bool Store::move_rekey(const Rekey& rekey, const std::string& from) {
  return impl_->db.write([&](Sql& sql) {
    return sql.run(
               "UPDATE rekeys SET state = :state, old_kid = :old_kid, new_kid = :new_kid, "
               "detail = :detail, changed = :changed WHERE id = :id AND state = :from_state",
               {{"state", rekey.state},
                {"old_kid", rekey.old_kid},
                {"new_kid", rekey.new_kid},
                {"detail", storable(rekey.detail)},
                {"changed", rekey.changed},
                {"id", rekey.id},
                {"from_state", from}}) == 1;
  });
}

}  // namespace keyagent::store
