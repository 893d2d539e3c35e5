// SPDX-License-Identifier: Apache-2.0
// Requests for keys between instances, at either end.

#include "agent/store/exchanges.h"

#include <algorithm>

#include "agent/base/error.h"
#include "agent/store/engine/table.h"
#include "agent/store/shared_statements.h"

namespace keyagent::store {
namespace {

constexpr Column<Exchange> kExchangeColumns[] = {
    column<&Exchange::id>("id").key(),
    column<&Exchange::number>("number").fixed(),
    column<&Exchange::side>("side").fixed(),
    column<&Exchange::own>("own").fixed(),
    column<&Exchange::peer>("peer").fixed(),
    column<&Exchange::frequency>("frequency").fixed(),
    column<&Exchange::specifications>("specifications").fixed(),
    column<&Exchange::rekey>("rekey").fixed(),
    column<&Exchange::state>("state"),
    column<&Exchange::code>("code"),
    escaped_column<&Exchange::text>("detail"),
    column<&Exchange::digest>("digest").fixed(),
    escaped_column<&Exchange::requested_by>("requested_by").fixed(),
    column<&Exchange::approved_by>("approved_by"),
    column<&Exchange::period>("period").fixed(),
    column<&Exchange::series>("series").fixed(),
    column<&Exchange::next>("next_at"),
    column<&Exchange::created>("created").fixed(),
    column<&Exchange::changed>("changed"),
    column<&Exchange::expires>("expires"),
    column<&Exchange::faults>("faults"),
    column<&Exchange::looks>("looks"),
    column<&Exchange::due>("due"),
    column<&Exchange::exported>("exported"),
    column<&Exchange::told>("told"),
    column<&Exchange::retried>("retried"),
    column<&Exchange::taken>("taken"),
    column<&Exchange::offer>("offer").fixed(),
    column<&Exchange::transcript>("transcript"),
    column<&Exchange::own_statement>("own_statement"),
    column<&Exchange::peer_statement>("peer_statement"),
    column<&Exchange::revision>("revision").fixed(),
};
constexpr Table<Exchange> kExchanges{"exchanges", kExchangeColumns};

constexpr Column<ExchangeKey> kExchangeKeyColumns[] = {
    column<&ExchangeKey::specification>("specification").key(),
    column<&ExchangeKey::kid>("kid").key(),
    column<&ExchangeKey::outcome>("outcome"),
    column<&ExchangeKey::code>("code"),
    escaped_column<&ExchangeKey::text>("detail"),
    column<&ExchangeKey::package>("package"),
};
// Beside `exchange`, the id of its request.
constexpr Table<ExchangeKey> kExchangeKeys{"exchange_keys", kExchangeKeyColumns};

// As in the index exchanges_open.
constexpr const char* kOpenExchanges =
    "state IN ('pending', 'approved', 'exported', 'imported', 'verified')";

long long update(Sql& sql, const Exchange& e) {
  return sql.run(
      kExchanges.update() + ", revision = revision + 1 WHERE id = :id AND revision = :revision",
      kExchanges.changes(e, {"id", "revision"}));
}

void put_key(Sql& sql, const std::string& id, const ExchangeKey& key) {
  auto bounds = kExchangeKeys.all(key);
  bounds.push_back({"exchange", id});
  sql.run("INSERT INTO exchange_keys (exchange, " + kExchangeKeys.list() + ") VALUES (:exchange, " +
              kExchangeKeys.list(":") + ")",
          bounds);
}

}  // namespace

// The counter's row is locked until the commit: of two that would be the last one allowed, the
// second sees the first.
bool Exchanges::add(const Exchange& exchange, std::size_t max_open, const Event& event) {
  return db_.write([&](Sql& sql) {
    auto added = exchange;
    added.number = sql.next_number("exchanges");
    if (sql.exists("SELECT id FROM exchanges WHERE id = :id", {{"id", exchange.id}})) return false;
    const auto open = sql.count(
        std::string("SELECT count(*) FROM exchanges WHERE own = :own AND ") + kOpenExchanges,
        {{"own", exchange.own}});
    if (open >= static_cast<long long>(max_open))
      throw Error(Code::kBusy, "too many key requests are open");
    sql.run(kExchanges.insert() + "ON CONFLICT (id) DO NOTHING", kExchanges.all(added));
    insert_event(sql, event);
    return true;
  });
}

std::optional<Exchange> Exchanges::find(const std::string& id) {
  return db_.read([&](Sql& sql) {
    return sql.first(kExchanges.select() + "WHERE id = :id", {{"id", id}}, kExchanges);
  });
}

std::vector<Exchange> Exchanges::list(const ExchangeFilter& filter) {
  return db_.read([&](Sql& sql) {
    return sql.all(kExchanges.select() +
                       "WHERE own = :own AND (:state = '' OR state = :state) "
                       "AND (:peer = '' OR peer = :peer) AND (:side = '' OR side = :side) "
                       "ORDER BY number DESC LIMIT :count",
                   {{"own", filter.own},
                    {"state", filter.state},
                    {"peer", filter.peer},
                    {"side", filter.side},
                    {"count", std::min<std::size_t>(filter.count, 100'000)}},
                   kExchanges);
  });
}

bool Exchanges::move(const Exchange& exchange, const std::vector<ExchangeKey>* keys,
                     const std::optional<Event>& event) {
  return db_.write([&](Sql& sql) {
    if (update(sql, exchange) != 1) return false;
    if (keys != nullptr) {
      sql.run("DELETE FROM exchange_keys WHERE exchange = :id", {{"id", exchange.id}});
      for (const auto& key : *keys) put_key(sql, exchange.id, key);
    }
    if (exchange.state != "approved" && exchange.state != "exported")
      sql.run("UPDATE exchange_keys SET package = '' WHERE exchange = :id", {{"id", exchange.id}});
    if (event) insert_event(sql, *event);
    return true;
  });
}

bool Exchanges::approve_by_policy(const Exchange& exchange, const Peer& peer, const Event& event) {
  return db_.write([&](Sql& sql) {
    const bool covered = sql.run(
                             "UPDATE peers SET automatic = :automatic, revision = revision + 1 "
                             "WHERE identity = :identity AND revision = :revision",
                             {{"automatic", peer.automatic},
                              {"identity", peer.identity},
                              {"revision", peer.revision}}) == 1;
    if (!covered) return false;
    if (update(sql, exchange) != 1)
      throw Error(Code::kBusy, "the request was changed concurrently; try again");
    insert_event(sql, event);
    return true;
  });
}

std::vector<ExchangeKey> Exchanges::keys(const std::string& id) {
  return db_.read([&](Sql& sql) {
    return sql.all(kExchangeKeys.select() + "WHERE exchange = :id ORDER BY specification, kid",
                   {{"id", id}}, kExchangeKeys);
  });
}

bool Exchanges::any() {
  return db_.read([](Sql& sql) { return sql.exists("SELECT 1 FROM exchanges LIMIT 1"); });
}

std::vector<Exchange> Exchanges::due(const std::string& own, WallTime now, std::size_t count) {
  return db_.read([&](Sql& sql) {
    const Bounds bounds{{"own", own}, {"now", now}, {"count", count}};
    auto found = sql.all(kExchanges.select() +
                             "WHERE own = :own AND due > 0 AND due <= :now "
                             "ORDER BY due LIMIT :count",
                         bounds, kExchanges);
    for (auto& each :
         sql.all(kExchanges.select() + "WHERE own = :own AND next_at > 0 AND next_at <= :now "
                                       "ORDER BY next_at LIMIT :count",
                 bounds, kExchanges)) {
      const bool known = std::any_of(found.begin(), found.end(),
                                     [&](const auto& other) { return other.id == each.id; });
      if (!known) found.push_back(std::move(each));
    }
    return found;
  });
}

}  // namespace keyagent::store
