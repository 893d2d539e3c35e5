// SPDX-License-Identifier: Apache-2.0
#include "agent/base/strict_json.h"

#include <gtest/gtest.h>

#include <string>

namespace keyagent {
namespace {

constexpr JsonLimits kLimits{64, 3};

TEST(StrictJson, AnObjectIsReadFromItsBraceOn) {
  for (const char* text : {"{}", "{ } \n", R"({"a":{"b":[1]}})", R"({"a":1,"b":{"a":2}})"})
    EXPECT_TRUE(parse_strict_object(text, kLimits)) << text;
  const auto ordered = parse_strict_object<nlohmann::ordered_json>(R"({"b":1,"a":2})", kLimits);
  EXPECT_EQ(ordered.value().dump(), R"({"b":1,"a":2})");
}

TEST(StrictJson, AnythingElseIsRefused) {
  for (const char* text :
       {"", " ", " {}", "[]", "null", "{", "{}{}", "{} x", "\xef\xbb\xbf{}", R"({"a":1,"a":1})",
        R"({"a":{"b":1,"b":2}})", R"({"a":[{"b":1,"b":2}]})", R"({"a":1,"\u0061":2})",
        R"({"a":1e999})", R"({a:1})", "{\"a\":\"\xff\"}"})
    EXPECT_FALSE(parse_strict_object(text, kLimits)) << text;
}

TEST(StrictJson, WhatIsOverALimitIsRefused) {
  const auto of_size = [](std::size_t size) {
    return "{\"a\":\"" + std::string(size - 8, 'x') + "\"}";
  };
  EXPECT_TRUE(parse_strict_object(of_size(64), kLimits));
  EXPECT_FALSE(parse_strict_object(of_size(65), kLimits));
  EXPECT_TRUE(parse_strict_object(R"({"a":[[]]})", kLimits));
  EXPECT_FALSE(parse_strict_object(R"({"a":[[[]]]})", kLimits));
  EXPECT_FALSE(parse_strict_object(R"({"a":{"b":{"c":{}}}})", kLimits));
}

}  // namespace
}  // namespace keyagent
