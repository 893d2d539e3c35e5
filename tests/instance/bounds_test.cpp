// SPDX-License-Identifier: Apache-2.0
// Every text of a request is bounded before it is recorded (RELIABILITY 155): the documents, the
// table and what it refuses are one.

#include "agent/instance/api/bounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "agent/base/error.h"
#include "tests/instance/request_members.h"

namespace keyagent::instance {
namespace {

using test::body_with;
using test::request_members;
using testing::HasSubstr;

std::string refusal_of_body(const Json& body) {
  try {
    require_bounds(body);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
    return error.what();
  }
  return "taken";
}

TEST(RequestBounds, Fault155_TheDocumentsSayTheBoundOfEveryTextAndList) {
  const auto members = request_members();
  ASSERT_GT(members.size(), 80u);
  for (const auto& each : members) {
    const auto what = each.method + " " + each.path + " " + each.member;
    if (each.kind == "list") {
      EXPECT_EQ(each.max, kMaxItems) << what;
      continue;
    }
    EXPECT_EQ(each.max, max_text(each.member)) << what;
    if (each.kind != "text") continue;
    EXPECT_EQ(refusal_of_body(body_with(each.member, std::string(each.max, 'x'))), "taken") << what;
    EXPECT_THAT(refusal_of_body(body_with(each.member, std::string(each.max + 1, 'x'))),
                HasSubstr("is too long"))
        << what;
  }
}

TEST(RequestBounds, Fault155_WhatNoDocumentNamesIsBoundedToo) {
  EXPECT_THAT(refusal_of_body({{"unknown", std::string(257, 'x')}}), HasSubstr("'unknown'"));
  EXPECT_THAT(refusal_of_body({{"a", {{"b", {std::string(257, 'x')}}}}}), HasSubstr("'a.b'"));
  EXPECT_THAT(refusal_of_body({{std::string(129, 'n'), 1}}), HasSubstr("of a name"));
  EXPECT_THAT(refusal_of_body({{"agents", Json(kMaxItems + 1, "a")}}), HasSubstr("items"));
  // Objects of any form, as a whole.
  EXPECT_EQ(refusal_of_body({{"input", {{"log", std::string(60'000, 'x')}}}}), "taken");
  EXPECT_THAT(refusal_of_body(
                  {{"value", {{"a", std::string(50'000, 'x')}, {"b", std::string(50'000, 'x')}}}}),
              HasSubstr("'value'"));
}

TEST(RequestBounds, Fault155_AnAgentsMessagesAreBounded) {
  const auto said = [](const Json& message) {
    try {
      require_bounds_of_message(message);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  EXPECT_THAT(said({{"type", "rekey"}, {"new_kid", std::string(257, 'k')}}),
              HasSubstr("'new_kid'"));
  EXPECT_THAT(said({{"type", "hello"}, {"session", std::string(257, 's')}}),
              HasSubstr("'session'"));
  EXPECT_EQ(said({{"type", "event"}, {"text", std::string(5000, 't')}}), "taken") << "it is cut";
}

}  // namespace
}  // namespace keyagent::instance
