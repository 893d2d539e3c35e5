// SPDX-License-Identifier: Apache-2.0
// The requests about what waits for a second person.

#include <algorithm>

#include "agent/base/error.h"
#include "agent/instance/api/api_routes.h"

namespace keyagent::instance {
namespace {

constexpr std::int64_t kMaxDecisionsListed = 1000;

Answer list_decisions(const PeopleAsk& ask) {
  static constexpr std::string_view kStates[] = {"",         "pending", "approved",
                                                 "rejected", "expired", "failed"};
  const auto state = ask.query("state");
  if (std::find(std::begin(kStates), std::end(kStates), state) == std::end(kStates))
    throw Error(Code::kUsage, "'state' must be pending, approved, rejected, expired or failed");
  const auto count = std::min<std::int64_t>(ask.number("count", 100), kMaxDecisionsListed);
  return json_answer(ask.parts.decisions.list(state, static_cast<std::size_t>(count)));
}

// kDecide is the first check; each kind of decision requires a further right.
const PeopleRoute kDecisionRoutes[] = {
    {"GET", "/v1/decisions", Right::kRead, list_decisions},
    {"GET", "/v1/decisions/{}", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.decisions.show(ask.ids[0])); }},
    {"POST", "/v1/decisions/{}/approve", Right::kDecide,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.decisions.approve(ask.ids[0], ask.person));
     }},
    {"POST", "/v1/decisions/{}/reject", Right::kDecide,
     [](const PeopleAsk& ask) {
       return json_answer(
           ask.parts.decisions.reject(ask.ids[0], text_of(ask.body, "reason", ""), ask.person));
     }},
};

}  // namespace

std::span<const PeopleRoute> decision_routes_of_people() {
  return kDecisionRoutes;
}

}  // namespace keyagent::instance
