// SPDX-License-Identifier: Apache-2.0
#include "agent/envelope/statement.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/support/software_keys.h"

namespace keyagent::envelope {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

const WallTime kNow = parse_rfc3339("2026-11-21T12:00:00.000Z");
const std::string kOwn(43, 'A'), kOther(43, 'B');

Json valid(Statement statement) {
  const auto now = rfc3339(kNow);
  switch (statement) {
    case Statement::kExchangeMessage:
      return {{"format", 1},
              {"kind", "keyagent-exchange-message"},
              {"type", "request"},
              {"from", kOwn},
              {"to", kOther},
              {"nonce", std::string(22, 'n')},
              {"issued", now},
              {"expires", rfc3339(kNow + 2min)},
              {"epoch", "a.b.c"},
              {"known", ""},
              {"body", {{"keys", Json::array({{{"kid", "k"}}})}}}};
    case Statement::kExchangeTranscript:
      return {{"format", 1},
              {"kind", "keyagent-exchange-transcript"},
              {"request", std::string(32, '0')},
              {"transcript", kOther}};
    case Statement::kRotation:
      return {{"agent", "web1"}, {"old_kid", kOwn}, {"new_kid", kOther}, {"at", now}};
    case Statement::kEpoch:
      break;
  }
  return {{"instance", "keys-example"}, {"epoch", 12}, {"at", now}};
}

constexpr Statement kAll[] = {Statement::kExchangeMessage, Statement::kExchangeTranscript,
                              Statement::kRotation, Statement::kEpoch};

bool taken(Statement statement, std::string_view payload) {
  try {
    require_statement(statement, as_bytes(payload), Kid(kOwn), kNow);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kDenied) << error.what();
    return false;
  }
}

TEST(Statements, Fault144_EachIsTakenAsItselfAndAsNoOther) {
  for (const auto statement : kAll) {
    for (const auto other : kAll)
      EXPECT_EQ(taken(other, valid(statement).dump()), other == statement) << type_of(other);
    EXPECT_EQ(statement_of_type(type_of(statement)), statement);
    EXPECT_TRUE(vouches(signer_of(statement)));
  }
  for (const char* type : {"", "JWT", "keyagent-exchange-key+jws", "keyagent-exchange+jws"})
    EXPECT_FALSE(statement_of_type(type)) << type;
}

TEST(Statements, Fault144_EveryMemberIsThereOnceAndNoOtherIs) {
  for (const auto statement : kAll) {
    const Json whole = valid(statement);
    for (const auto& [name, value] : whole.items()) {
      Json lacks = whole, null = whole;
      lacks.erase(name);
      null[name] = nullptr;
      EXPECT_FALSE(taken(statement, lacks.dump())) << name;
      EXPECT_FALSE(taken(statement, null.dump())) << name;
    }
    Json more = whole;
    more["more"] = 1;
    EXPECT_FALSE(taken(statement, more.dump()));
    const auto text = whole.dump();
    const auto first = whole.items().begin();
    EXPECT_FALSE(
        taken(statement, "{\"" + first.key() + "\":" + first.value().dump() + "," + text.substr(1)))
        << "twice";
    EXPECT_FALSE(taken(statement, text + " x"));
  }
  for (const char* none : {"", "[]", "\"text\"", "{}", "null"}) {
    for (const auto statement : kAll) EXPECT_FALSE(taken(statement, none));
  }
}

TEST(Statements, Fault144_EveryMemberHasItsForm) {
  using Change = std::function<void(Json&)>;
  const std::pair<Statement, Change> bad[] = {
      {Statement::kExchangeMessage, [](Json& j) { j["format"] = 2; }},
      {Statement::kExchangeMessage, [](Json& j) { j["kind"] = "keyagent-exchange-transcript"; }},
      {Statement::kExchangeMessage, [](Json& j) { j["type"] = "offer"; }},
      {Statement::kExchangeMessage, [](Json& j) { j["from"] = kOther; }},
      {Statement::kExchangeMessage, [](Json& j) { j["to"] = kOwn; }},
      {Statement::kExchangeMessage, [](Json& j) { j["nonce"] = "short"; }},
      {Statement::kExchangeMessage, [](Json& j) { j["issued"] = rfc3339(kNow + 6min); }},
      {Statement::kExchangeMessage, [](Json& j) { j["issued"] = "2026-11-21T12:00:00Z"; }},
      {Statement::kExchangeMessage, [](Json& j) { j["expires"] = rfc3339(kNow + 24h); }},
      {Statement::kExchangeMessage, [](Json& j) { j["expires"] = j["issued"]; }},
      {Statement::kExchangeMessage, [](Json& j) { j["epoch"] = "a b"; }},
      {Statement::kExchangeMessage, [](Json& j) { j["known"] = std::string(20'000, 'a'); }},
      {Statement::kExchangeMessage, [](Json& j) { j["body"] = "text"; }},
      {Statement::kExchangeMessage, [](Json& j) { j["body_sha256"] = kOther; }},
      {Statement::kExchangeTranscript, [](Json& j) { j["request"] = "req-1"; }},
      {Statement::kExchangeTranscript, [](Json& j) { j["transcript"] = "short"; }},
      {Statement::kRotation, [](Json& j) { j["agent"] = "Web 1"; }},
      {Statement::kRotation, [](Json& j) { j["agent"] = std::string(64, 'a'); }},
      {Statement::kRotation, [](Json& j) { j["new_kid"] = j["old_kid"]; }},
      {Statement::kRotation, [](Json& j) { j["at"] = rfc3339(kNow + 24h); }},
      {Statement::kEpoch, [](Json& j) { j["epoch"] = -1; }},
      {Statement::kEpoch, [](Json& j) { j["epoch"] = 1.5; }},
      {Statement::kEpoch, [](Json& j) { j["at"] = rfc3339(kNow - 24h); }}};
  int number = 0;
  for (const auto& [statement, change] : bad) {
    Json payload = valid(statement);
    change(payload);
    EXPECT_FALSE(taken(statement, payload.dump())) << number << " " << payload.dump();
    ++number;
  }
  Json beside = valid(Statement::kExchangeMessage);
  beside.erase("body");
  beside["body_sha256"] = kOther;
  EXPECT_TRUE(taken(Statement::kExchangeMessage, beside.dump()));
}

TEST(Statements, Fault144_AJwsOfOneTypeIsNotTakenForAnother) {
  test::SoftwareKeys keys;
  const auto key = keys.add("confirm", Purpose::kConfirm, KeyAlgorithm::kEcP256);
  const auto payload = valid(Statement::kRotation).dump();
  const auto sign = [&](std::string_view type) {
    return sign_jws(keys, key, SignatureAlgorithm::kEs256, as_bytes(payload), type);
  };
  const auto holds = [&](const std::string& jws, Statement statement) {
    try {
      return as_text(verify_statement(key, jws, statement)) == payload;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kIntegrity);
      return false;
    }
  };
  const auto typed = sign(type_of(Statement::kRotation));
  EXPECT_TRUE(holds(typed, Statement::kRotation));
  EXPECT_FALSE(holds(typed, Statement::kEpoch));
  EXPECT_FALSE(holds(sign("JWT"), Statement::kRotation));
  EXPECT_TRUE(holds(sign({}), Statement::kRotation)) << "as version 0.1 made them";
  EXPECT_FALSE(holds("", Statement::kRotation));
}

}  // namespace
}  // namespace keyagent::envelope
