// SPDX-License-Identifier: Apache-2.0
// The access policy of a specification, as a table.

#include "agent/instance/data/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/error.h"

namespace keyagent::instance {
namespace {

using testing::HasSubstr;

const Json kRules = Json::parse(R"([
  {"rule":"app","effect":"allow","uses":["encrypt","decrypt"],"users":["app"]},
  {"rule":"desk","effect":"track","uses":["decrypt"],"roles":["operator"]},
  {"rule":"managers","effect":"allow","uses":["exchange"],"roles":["cryptographic-manager"]},
  {"rule":"not-bob","effect":"reject","uses":["encrypt","decrypt","exchange"],"users":["bob"]},
  {"rule":"all-operators","effect":"allow","uses":["decrypt","encrypt"],"roles":["operator"]}
])");

std::string decided(DataUse use, std::string_view role, const std::string& user) {
  const auto decision = decide(read_access(kRules), use, role, user);
  return std::string(decision.allowed ? decision.tracked ? "tracked" : "allowed" : "denied") +
         " by " + decision.rule;
}

TEST(Access, X13_WhatNoRuleAllowsIsDeniedAndRejectWinsOverTrackOverAllow) {
  EXPECT_EQ(decided(DataUse::kEncrypt, "auditor", "app"), "allowed by app");
  EXPECT_EQ(decided(DataUse::kExchange, "auditor", "app"), "denied by default");
  EXPECT_EQ(decided(DataUse::kDecrypt, "admin", "ada"), "denied by default");
  EXPECT_EQ(decided(DataUse::kDecrypt, "operator", "ops"), "tracked by desk");
  EXPECT_EQ(decided(DataUse::kDecrypt, "operator", "app"), "tracked by desk");
  EXPECT_EQ(decided(DataUse::kEncrypt, "operator", "ops"), "allowed by all-operators");
  EXPECT_EQ(decided(DataUse::kEncrypt, "operator", "bob"), "denied by not-bob");
  EXPECT_EQ(decided(DataUse::kDecrypt, "operator", "bob"), "denied by not-bob");
  EXPECT_EQ(decided(DataUse::kExchange, "cryptographic-manager", "eve"), "allowed by managers");
  EXPECT_EQ(decided(DataUse::kExchange, "cryptographic-manager", "bob"), "denied by not-bob");
  EXPECT_FALSE(decide({}, DataUse::kDecrypt, "admin", "root").allowed);
}

TEST(Access, RulesAreReadBackAsTheyWereWritten) {
  const auto rules = read_access(kRules);
  EXPECT_EQ(read_access(access_json(rules)).size(), rules.size());
  EXPECT_EQ(access_json(read_access(access_json(rules))), access_json(rules));
  EXPECT_TRUE(read_access(nullptr).empty());
}

TEST(Access, ARuleThatMeansNothingIsRefusedByName) {
  const std::pair<const char*, const char*> kWrong[] = {
      {R"({})", "list"},
      {R"([1])", "list"},
      {R"([{"rule":"a","effect":"allow","uses":["encrypt"]}])", "rule a needs"},
      {R"([{"rule":"a","effect":"allow","uses":[],"users":["x"]}])", "rule a needs"},
      {R"([{"rule":"a","effect":"grant","uses":["encrypt"],"users":["x"]}])", "'effect'"},
      {R"([{"rule":"a","effect":"allow","uses":["read"],"users":["x"]}])", "'uses'"},
      {R"([{"rule":"a","effect":"allow","uses":["encrypt"],"roles":["root"]}])",
       "unknown role 'root'"},
      {R"([{"rule":"default","effect":"allow","uses":["encrypt"],"users":["x"]}])", "name"},
      {R"([{"rule":"a","effect":"allow","uses":["encrypt"],"user":["x"]}])",
       "unknown member 'user'"},
      {R"([{"rule":"a","effect":"allow","uses":["encrypt"],"users":["x"]},
           {"rule":"a","effect":"allow","uses":["encrypt"],"users":["y"]}])",
       "two rules have the name a"}};
  for (const auto& [text, what] : kWrong) {
    try {
      read_access(Json::parse(text));
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUsage);
      EXPECT_THAT(error.what(), HasSubstr(what));
    }
  }
}

}  // namespace
}  // namespace keyagent::instance
