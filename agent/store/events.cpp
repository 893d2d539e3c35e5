#include <algorithm>

#include "agent/store/store_impl.h"

namespace keyagent::store {

// The number is taken under a lock that lasts until the commit: who has seen event n will never
// find a smaller one that was not there.
std::int64_t insert_event(Sql& sql, const Event& event) {
  const auto seq = sql.next_number("events");
  sql.run(
      "INSERT INTO events (seq, happened, actor, action, subject, outcome, body) "
      "VALUES (:seq, :at, :actor, :action, :subject, :outcome, :body)",
      {{"seq", seq},
       {"at", event.at},
       {"actor", storable(event.actor)},
       {"action", storable(event.action)},
       {"subject", storable(event.subject)},
       {"outcome", storable(event.outcome)},
       {"body", storable(event.text)}});
  return seq;
}

std::int64_t Store::add_event(const Event& event) {
  return impl_->db.write([&](Sql& sql) { return insert_event(sql, event); });
}

std::vector<Event> Store::events(std::int64_t after_seq, std::size_t count) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        "SELECT seq, happened, actor, action, subject, outcome, body FROM events "
        "WHERE seq > :after ORDER BY seq LIMIT :count",
        {{"after", after_seq}, {"count", std::min<std::size_t>(count, 1'000'000)}},
        [](const Row& row) {
          return Event{.seq = row.number(0),
                       .at = row.time(1),
                       .actor = row.text(2),
                       .action = row.text(3),
                       .subject = row.text(4),
                       .outcome = row.text(5),
                       .text = row.text(6)};
        });
  });
}

}  // namespace keyagent::store
