// SPDX-License-Identifier: Apache-2.0
// Requests for keys between instances, at either end.

#include <algorithm>

#include "agent/base/error.h"
#include "agent/store/store_impl.h"

namespace keyagent::store {
namespace {

const std::string kSelectExchanges =
    "SELECT id, number, side, own, peer, frequency, specifications, rekey, state, code, detail, "
    "digest, requested_by, approved_by, period, series, next_at, created, changed, expires, "
    "faults, looks, due, exported, told, retried, offer, transcript, own_statement, "
    "peer_statement, revision, taken FROM exchanges ";
// As in the index exchanges_open.
constexpr const char* kOpenExchanges =
    "state IN ('pending', 'approved', 'exported', 'imported', 'verified')";

Exchange exchange_of(const Row& row) {
  return {.id = row.text(0),
          .number = row.number(1),
          .side = row.text(2),
          .own = row.text(3),
          .peer = row.text(4),
          .frequency = row.text(5),
          .specifications = row.list(6),
          .rekey = row.flag(7),
          .state = row.text(8),
          .code = row.text(9),
          .text = row.text(10),
          .digest = row.text(11),
          .requested_by = row.text(12),
          .approved_by = row.text(13),
          .period = std::chrono::milliseconds(row.number(14)),
          .series = row.text(15),
          .next = row.time(16),
          .created = row.time(17),
          .changed = row.time(18),
          .expires = row.time(19),
          .faults = row.number(20),
          .looks = row.number(21),
          .due = row.time(22),
          .exported = row.flag(23),
          .told = row.flag(24),
          .retried = row.flag(25),
          .taken = row.flag(31),
          .offer = row.text(26),
          .transcript = row.text(27),
          .own_statement = row.text(28),
          .peer_statement = row.text(29),
          .revision = row.number(30)};
}

ExchangeKey key_of(const Row& row) {
  return {.specification = row.text(0),
          .kid = row.text(1),
          .outcome = row.text(2),
          .code = row.text(3),
          .text = row.text(4),
          .package = row.text(5)};
}

// What both statements write.
Bounds changing(const Exchange& e) {
  return {{"state", e.state},
          {"code", e.code},
          {"detail", storable(e.text)},
          {"approved_by", e.approved_by},
          {"next", e.next},
          {"changed", e.changed},
          {"expires", e.expires},
          {"faults", e.faults},
          {"looks", e.looks},
          {"due", e.due},
          {"exported", e.exported},
          {"told", e.told},
          {"retried", e.retried},
          {"taken", e.taken},
          {"transcript", e.transcript},
          {"own_statement", e.own_statement},
          {"peer_statement", e.peer_statement},
          {"id", e.id},
          {"revision", e.revision}};
}

long long insert(Sql& sql, const Exchange& e) {
  auto bounds = changing(e);
  const Bounds fixed{{"number", e.number},
                     {"side", e.side},
                     {"own", e.own},
                     {"peer", e.peer},
                     {"frequency", e.frequency},
                     {"specifications", e.specifications},
                     {"rekey", e.rekey},
                     {"digest", e.digest},
                     {"requested_by", storable(e.requested_by)},
                     {"period", e.period.count()},
                     {"series", e.series},
                     {"created", e.created},
                     {"offer", e.offer}};
  bounds.insert(bounds.end(), fixed.begin(), fixed.end());
  return sql.run(
      "INSERT INTO exchanges (id, number, side, own, peer, frequency, specifications, rekey, "
      "state, code, detail, digest, requested_by, approved_by, period, series, next_at, created, "
      "changed, expires, faults, looks, due, exported, told, retried, offer, transcript, "
      "own_statement, peer_statement, revision, taken) VALUES (:id, :number, :side, :own, :peer, "
      ":frequency, :specifications, :rekey, :state, :code, :detail, :digest, :requested_by, "
      ":approved_by, "
      ":period, :series, :next, :created, :changed, :expires, :faults, :looks, :due, :exported, "
      ":told, :retried, :offer, :transcript, :own_statement, :peer_statement, :revision, :taken) "
      "ON CONFLICT (id) DO NOTHING",
      bounds);
}

long long update(Sql& sql, const Exchange& e) {
  return sql.run(
      "UPDATE exchanges SET state = :state, code = :code, detail = :detail, "
      "approved_by = :approved_by, next_at = :next, changed = :changed, faults = :faults, "
      "looks = :looks, due = :due, exported = :exported, told = :told, retried = :retried, "
      "taken = :taken, transcript = :transcript, own_statement = :own_statement, "
      "peer_statement = :peer_statement, expires = :expires, "
      "revision = revision + 1 WHERE id = :id AND revision = :revision",
      changing(e));
}

void put_key(Sql& sql, const std::string& id, const ExchangeKey& key) {
  sql.run(
      "INSERT INTO exchange_keys (exchange, specification, kid, outcome, code, detail, package) "
      "VALUES (:exchange, :specification, :kid, :outcome, :code, :detail, :package)",
      {{"exchange", id},
       {"specification", key.specification},
       {"kid", key.kid},
       {"outcome", key.outcome},
       {"code", key.code},
       {"detail", storable(key.text)},
       {"package", key.package}});
}

}  // namespace

// The counter's row is locked until the commit: of two that would be the last one allowed, the
// second sees the first.
bool Store::add_exchange(const Exchange& exchange, std::size_t max_open, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
    auto added = exchange;
    added.number = sql.next_number("exchanges");
    if (sql.first("SELECT id FROM exchanges WHERE id = :id", {{"id", exchange.id}},
                  [](const Row& row) { return row.text(0); }))
      return false;
    const auto open = sql.first(
        std::string("SELECT count(*) FROM exchanges WHERE own = :own AND ") + kOpenExchanges,
        {{"own", exchange.own}}, [](const Row& row) { return row.number(0); });
    if (open.value() >= static_cast<long long>(max_open))
      throw Error(Code::kBusy, "too many key requests are open");
    insert(sql, added);
    insert_event(sql, event);
    return true;
  });
}

std::optional<Exchange> Store::exchange(const std::string& id) {
  return impl_->db.read([&](Sql& sql) {
    return sql.first(kSelectExchanges + "WHERE id = :id", {{"id", id}}, exchange_of);
  });
}

std::vector<Exchange> Store::exchanges(const ExchangeFilter& filter) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(kSelectExchanges +
                       "WHERE own = :own AND (:state = '' OR state = :state) "
                       "AND (:peer = '' OR peer = :peer) AND (:side = '' OR side = :side) "
                       "ORDER BY number DESC LIMIT :count",
                   {{"own", filter.own},
                    {"state", filter.state},
                    {"peer", filter.peer},
                    {"side", filter.side},
                    {"count", std::min<std::size_t>(filter.count, 100'000)}},
                   exchange_of);
  });
}

bool Store::move_exchange(const Exchange& exchange, const std::vector<ExchangeKey>* keys,
                          const std::optional<Event>& event) {
  return impl_->db.write([&](Sql& sql) {
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

bool Store::approve_by_policy(const Exchange& exchange, const Peer& peer, const Event& event) {
  return impl_->db.write([&](Sql& sql) {
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

std::vector<ExchangeKey> Store::exchange_keys(const std::string& id) {
  return impl_->db.read([&](Sql& sql) {
    return sql.all(
        "SELECT specification, kid, outcome, code, detail, package FROM exchange_keys "
        "WHERE exchange = :id ORDER BY specification, kid",
        {{"id", id}}, key_of);
  });
}

bool Store::has_exchanges() {
  return impl_->db.read([](Sql& sql) {
    return sql.first("SELECT 1 FROM exchanges LIMIT 1", {}, [](const Row&) { return true; })
        .has_value();
  });
}

std::vector<Exchange> Store::due_exchanges(const std::string& own, WallTime now,
                                           std::size_t count) {
  return impl_->db.read([&](Sql& sql) {
    const Bounds bounds{{"own", own}, {"now", now}, {"count", count}};
    auto found = sql.all(kSelectExchanges +
                             "WHERE own = :own AND due > 0 AND due <= :now "
                             "ORDER BY due LIMIT :count",
                         bounds, exchange_of);
    for (auto& each :
         sql.all(kSelectExchanges + "WHERE own = :own AND next_at > 0 AND next_at <= :now "
                                    "ORDER BY next_at LIMIT :count",
                 bounds, exchange_of)) {
      const bool known = std::any_of(found.begin(), found.end(),
                                     [&](const auto& other) { return other.id == each.id; });
      if (!known) found.push_back(std::move(each));
    }
    return found;
  });
}

}  // namespace keyagent::store
