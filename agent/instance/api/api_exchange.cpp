// SPDX-License-Identifier: Apache-2.0
// The requests about peers and exchanges of keys: of people, and of the peers themselves.

#include <algorithm>

#include "agent/base/error.h"
#include "agent/instance/api/api_routes.h"
#include "agent/instance/exchange/exchange_request.h"
#include "agent/store/exchanges.h"

namespace keyagent::instance {
namespace {

constexpr std::int64_t kMaxListed = 1000;

Answer list_exchanges(const PeopleAsk& ask) {
  store::ExchangeFilter filter;
  filter.state = ask.query("state");
  filter.side = ask.query("side");
  if (!filter.state.empty() && !exchange_state_of(filter.state))
    throw Error(Code::kUsage,
                "'state' must be pending, approved, exported, imported, verified, complete, "
                "rejected, expired, failed or cancelled");
  if (!filter.side.empty() && !exchange_side_of(filter.side))
    throw Error(Code::kUsage, "'side' must be source or target");
  filter.count =
      static_cast<std::size_t>(std::min<std::int64_t>(ask.number("count", 100), kMaxListed));
  return json_answer(ask.parts.exchanges.list(filter, ask.query("peer")));
}

Answer put_peer(const PeopleAsk& ask) {
  return json_answer(ask.parts.changes.put_peer(ask.ids[0], ask.body, ask.person));
}

std::string reason_of(const PeopleAsk& ask) {
  return text_of(ask.body, "reason", "").substr(0, 500);
}

const PeopleRoute kPeople[] = {
    // Authenticated by the peer's signature; other callers are refused.
    {"POST", "/v1/exchange", std::nullopt,
     [](const PeopleAsk& ask) { return Answer{ask.parts.exchanges.answer(ask.request.body)}; }},
    {"POST", "/v1/exchange/identity", Right::kExchange,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.exchanges.identity()); }},
    {"POST", "/v1/exchange/check", Right::kExchange,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.exchanges.check(ask.body)); }},
    {"GET", "/v1/peers", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.exchanges.peers().list()); }},
    {"PUT", "/v1/peers/{}", Right::kExchange, put_peer},
    {"DELETE", "/v1/peers/{}", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.exchanges.peers().remove(ask.ids[0], ask.person.name));
     }},
    {"PUT", "/v1/peers/{}/automatic", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.changes.set_automatic(ask.ids[0], ask.body, ask.person));
     }},
    {"POST", "/v1/exchanges", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.exchanges.request(ask.body, ask.person.name));
     }},
    {"GET", "/v1/exchanges", Right::kRead, list_exchanges},
    {"GET", "/v1/exchanges/{}", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.exchanges.show(ask.ids[0])); }},
    {"POST", "/v1/exchanges/{}/approve", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.changes.approve_exchange(ask.ids[0], ask.body, ask.person));
     }},
    {"POST", "/v1/exchanges/{}/reject", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.exchanges.reject(ask.ids[0], reason_of(ask), ask.person.name));
     }},
    {"POST", "/v1/exchanges/{}/cancel", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.exchanges.cancel(ask.ids[0], reason_of(ask), ask.person.name));
     }},
    {"POST", "/v1/exchanges/{}/retry", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.exchanges.retry(ask.ids[0], ask.person.name));
     }},
    {"POST", "/v1/exchanges/{}/stop", Right::kExchange,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.exchanges.stop(ask.ids[0], ask.person.name));
     }},
};

}  // namespace

std::span<const PeopleRoute> exchange_routes_of_people() {
  return kPeople;
}

}  // namespace keyagent::instance
