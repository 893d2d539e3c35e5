// SPDX-License-Identifier: Apache-2.0
// The requests about specifications of data, their records and their re-encryption.

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/instance/api/api_routes.h"
#include "agent/store/users.h"

namespace keyagent::instance {
namespace {

constexpr std::int64_t kMaxRecordsListed = 1000;

Answer why(const PeopleAsk& ask) {
  auto person = ask.person;
  if (const auto name = ask.query("user"); !name.empty() && name != person.name) {
    const auto user = ask.parts.store.users().find(name);
    const auto role = user ? role_of(user->role) : std::nullopt;
    if (!role) throw Error(Code::kUsage, "there is no user '" + escape_controls(name) + "'");
    person = {name, *role};
  }
  return json_answer(ask.parts.specifications.why(ask.ids[0], ask.query("use"), person));
}

Answer list_records(const PeopleAsk& ask) {
  const auto count = std::min<std::int64_t>(ask.number("count", 100), kMaxRecordsListed);
  return json_answer(
      ask.parts.records.list(ask.ids[0], ask.query("after"), static_cast<std::size_t>(count)));
}

// The specification's rules decide about records: kRead admits every authenticated user.
const PeopleRoute kRecordRoutes[] = {
    {"GET", "/v1/specifications", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.specifications.list()); }},
    {"POST", "/v1/specifications", Right::kSpecifications,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.changes.create_specification(ask.body, ask.person));
     }},
    {"GET", "/v1/specifications/{}", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.specifications.show(ask.ids[0])); }},
    {"PUT", "/v1/specifications/{}/access", Right::kSpecifications,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.changes.set_access(ask.ids[0], ask.body, ask.person));
     }},
    {"POST", "/v1/specifications/{}/rekey", Right::kSpecifications,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.specifications.rekey(ask.ids[0], ask.person.name));
     }},
    {"GET", "/v1/specifications/{}/why", Right::kRead, why},
    {"GET", "/v1/specifications/{}/records", Right::kRead, list_records},
    {"PUT", "/v1/specifications/{}/records/{}", Right::kRead,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.records.put(ask.ids[0], ask.ids[1], ask.body, ask.person));
     }},
    {"GET", "/v1/specifications/{}/records/{}", Right::kRead,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.records.get(ask.ids[0], ask.ids[1], ask.person));
     }},
    {"DELETE", "/v1/specifications/{}/records/{}", Right::kRead,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.records.remove(ask.ids[0], ask.ids[1], ask.person));
     }},
    {"GET", "/v1/reencryptions", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.reencryption.list()); }},
    {"GET", "/v1/reencryptions/{}", Right::kRead,
     [](const PeopleAsk& ask) { return json_answer(ask.parts.reencryption.show(ask.ids[0])); }},
    {"POST", "/v1/reencryptions/{}", Right::kSpecifications,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.reencryption.start(ask.ids[0], ask.body, ask.person.name));
     }},
    {"POST", "/v1/reencryptions/{}/pause", Right::kSpecifications,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.reencryption.pause(ask.ids[0], ask.person.name));
     }},
    {"POST", "/v1/reencryptions/{}/resume", Right::kSpecifications,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.reencryption.resume(ask.ids[0], ask.person.name));
     }},
};

}  // namespace

std::span<const PeopleRoute> record_routes_of_people() {
  return kRecordRoutes;
}

}  // namespace keyagent::instance
