// SPDX-License-Identifier: Apache-2.0
#include "agent/store/events.h"

#include <algorithm>

#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {

namespace {

constexpr Column<Event> kEventColumns[] = {
    column<&Event::seq>("seq").key(),           column<&Event::at>("happened"),
    escaped_column<&Event::actor>("actor"),     escaped_column<&Event::action>("action"),
    escaped_column<&Event::subject>("subject"), escaped_column<&Event::outcome>("outcome"),
    escaped_column<&Event::text>("body"),       column<&Event::repeats>("repeats"),
};
constexpr Table<Event> kEvents{"events", kEventColumns};

// refused and failed are one kind.
Bounds kind_of(const std::string& outcome) {
  return {{"outcome", outcome}, {"other", outcome == "refused" ? "failed" : outcome}};
}

}  // namespace

// The number is taken under a lock that lasts until the commit: who has seen event n will never
// find a smaller one that did not exist.
std::int64_t insert_event(Sql& sql, const Event& event) {
  auto numbered = event;
  numbered.seq = sql.next_number("events");
  sql.run(kEvents.insert(), kEvents.all(numbered));
  return numbered.seq;
}

std::int64_t last_event(Sql& sql) {
  return sql.first<std::int64_t>("SELECT value FROM counters WHERE name = 'events'").value_or(0);
}

std::int64_t Events::add(const Event& event) {
  return db_.write([&](Sql& sql) { return insert_event(sql, event); });
}

std::vector<Event> Events::list(std::int64_t after_seq, std::size_t count) {
  return db_.read([&](Sql& sql) {
    return sql.all(kEvents.select() + "WHERE seq > :after ORDER BY seq LIMIT :count",
                   {{"after", after_seq}, {"count", std::min<std::size_t>(count, 1'000'000)}},
                   kEvents);
  });
}

std::vector<Event> Events::newest(std::size_t count) {
  auto found = db_.read([&](Sql& sql) {
    return sql.all(kEvents.select() + "ORDER BY seq DESC LIMIT :count",
                   {{"count", std::min<std::size_t>(count, 1'000'000)}}, kEvents);
  });
  std::reverse(found.begin(), found.end());
  return found;
}

std::int64_t Events::last_number() {
  return db_.read(last_event);
}

std::int64_t Events::count(const std::string& outcome) {
  return db_.read([&](Sql& sql) {
    return sql.count("SELECT count(*) FROM events WHERE outcome IN (:outcome, :other)",
                     kind_of(outcome));
  });
}

std::int64_t Events::forget(const std::string& outcome, std::int64_t most, WallTime before) {
  return db_.write([&](Sql& sql) -> std::int64_t {
    auto bounds = kind_of(outcome);
    bounds.push_back({"most", most});
    const auto beyond = sql.first<std::int64_t>(
        "SELECT seq FROM events WHERE outcome IN (:outcome, :other) "
        "ORDER BY seq DESC LIMIT 1 OFFSET :most",
        bounds);
    bounds = kind_of(outcome);
    bounds.push_back({"beyond", beyond.value_or(0)});
    bounds.push_back({"before", before});
    return sql.run(
        "DELETE FROM events WHERE outcome IN (:outcome, :other) "
        "AND (seq <= :beyond OR happened < :before)",
        bounds);
  });
}

}  // namespace keyagent::store
