// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/base/error.h"
#include "agent/instance/api/paths.h"
#include "agent/instance/common/config.h"
#include "agent/instance/common/json.h"
#include "agent/instance/common/users.h"
#include "agent/instance/fleet/trust.h"

namespace keyagent::instance {
namespace {

TEST(Trust, R12_EveryVerbFromEveryStateLeadsWhereItMust) {
  using enum Trust;
  using enum TrustVerb;
  const std::optional<Trust> no;
  const std::vector<Trust> states{kPending, kTrusted, kSuspended, kRevoked, kRejected};
  const std::vector<std::pair<TrustVerb, std::vector<std::optional<Trust>>>> table{
      {kApprove, {kTrusted, kTrusted, no, no, no}},
      {kReject, {kRejected, no, no, no, kRejected}},
      {kSuspend, {no, kSuspended, kSuspended, no, no}},
      {kResume, {no, kTrusted, kTrusted, no, no}},
      {kRevoke, {kRevoked, kRevoked, kRevoked, kRevoked, no}}};
  for (const auto& [verb, expected] : table) {
    for (std::size_t i = 0; i < states.size(); ++i) {
      EXPECT_EQ(after(states[i], verb), expected[i])
          << name_of(verb) << " from " << name_of(states[i]);
      EXPECT_EQ(trust_of(name_of(states[i])), states[i]);
    }
    EXPECT_EQ(trust_verb_of(name_of(verb)), verb);
  }
}

TEST(Roles, RightsAreThoseOfTheTable) {
  const std::vector<Right> all{Right::kRead,   Right::kEvents,      Right::kAgents,
                               Right::kGroups, Right::kCredentials, Right::kRekey,
                               Right::kTasks,  Right::kUsers,       Right::kBackup};
  const std::vector<std::pair<Role, std::string>> expected{
      {Role::kAdmin, "111111111"},
      {Role::kCryptographicManager, "101001000"},
      {Role::kOperator, "100110100"},
      {Role::kAuditor, "110000000"}};
  for (const auto& [role, wanted] : expected) {
    std::string found;
    for (const auto right : all) found += has(role, right) ? '1' : '0';
    EXPECT_EQ(found, wanted) << name_of(role);
  }
}

TEST(Paths, APatternMatchesWholePathsOnly) {
  using Ids = std::vector<std::string>;
  EXPECT_EQ(match_path("/v1/agents/{}/{}", "/v1/agents/web1/approve"), (Ids{"web1", "approve"}));
  EXPECT_EQ(match_path("/v1/agents", "/v1/agents"), Ids{});
  for (const char* path : {"/v1/agents/", "/v1/agents/a/b/c", "/v1/agent", "/v1/agents//x", ""}) {
    EXPECT_FALSE(match_path("/v1/agents/{}/{}", path)) << path;
  }
}

// A part of a path is recorded as the subject of events.
TEST(Paths, Fault155_APartOfAPathIsBounded) {
  const std::string longest(256, 'x'), longer(257, 'x');
  EXPECT_TRUE(match_path("/v1/credentials/{}", "/v1/credentials/" + longest));
  EXPECT_FALSE(match_path("/v1/credentials/{}", "/v1/credentials/" + longer));
  EXPECT_FALSE(match_path("/v1/agents/{}/{}", "/v1/agents/a/" + longer));
  EXPECT_EQ(no_such_path("GET", "/v1/x"), "there is no GET /v1/x");
  const auto text = no_such_path("GET", "/" + std::string(254, 'x') + "\xc3\xa4" + longer);
  EXPECT_TRUE(text.ends_with("x...: each part of a path has at most 256 bytes")) << text;
  EXPECT_LT(text.size(), 320u);
}

TEST(InstanceJson, WhatIsMissingOrOfAnotherTypeIsNamed) {
  const Json object = parse_object(R"({"a":"x","b":true,"n":5,"l":["p"],"z":null})");
  EXPECT_EQ(text_of(object, "a"), "x");
  EXPECT_EQ(text_of(object, "z", "none"), "none");
  EXPECT_EQ(texts_of(object, "l"), std::vector<std::string>{"p"});
  EXPECT_EQ(text_of(parse_object("\n {\"a\":\"x\"}\n"), "a"), "x");
  EXPECT_THROW(text_of(object, "n"), Error);
  EXPECT_THROW(text_of(object, "missing"), Error);
  EXPECT_THROW(flag_of(object, "a", false), Error);
  EXPECT_THROW(number_of(object, "n", 0, 6, 9), Error);
  EXPECT_THROW(bytes_of(parse_object(R"({"x":"a="})"), "x"), Error);
  EXPECT_THROW(parse_object("[]"), Error);
  EXPECT_THROW(parse_object("{"), Error);
  EXPECT_THROW(parse_object(std::string(40, '[')), Error);
  EXPECT_THROW(parse_object(R"({"role":"auditor","role":"admin"})"), Error);
  std::string deep = "{\"a\":";
  for (int i = 0; i < 30; ++i) deep += "[";
  EXPECT_THROW(parse_object(deep + std::string(30, ']') + "}"), Error);
}

struct BadConfig {
  const char* name;
  const char* yaml;
  const char* says;
};
class InstanceConfigTrap : public testing::TestWithParam<BadConfig> {};

TEST_P(InstanceConfigTrap, T4_IsNamed) {
  try {
    parse_config(GetParam().yaml, "test.yml");
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kConfiguration);
    EXPECT_NE(std::string(error.what()).find(GetParam().says), std::string::npos) << error.what();
  }
}

#define GOOD "id: a\nhosts: [h]\nagent: {socket: /run/a.sock}\nstore: {url: sqlite:///x.db}\n"
INSTANTIATE_TEST_SUITE_P(
    All, InstanceConfigTrap,
    testing::Values(
        BadConfig{"Unknown", GOOD "liten: {}\n", "liten"},
        BadConfig{"Id", "id: A_b\nhosts: [h]\n", "[a-z0-9.-]"},
        BadConfig{"NoHosts", "id: a\nagent: {socket: /s}\nstore: {url: sqlite:///x}\n", "hosts"},
        BadConfig{"Socket", "id: a\nhosts: [h]\nagent: {socket: s}\nstore: {url: sqlite:///x}\n",
                  "absolute"},
        BadConfig{"Store", "id: a\nhosts: [h]\nagent: {socket: /s}\nstore: {url: mysql://x}\n",
                  "sqlite:///"},
        BadConfig{"Password",
                  "id: a\nhosts: [h]\nagent: {socket: /s}\nstore: {url: 'postgresql://u:p@h/d'}\n",
                  "password must not be"},
        BadConfig{"Port", GOOD "listen: {api: '0.0.0.0:99999'}\n", "ADDRESS:PORT"},
        BadConfig{"Lease", GOOD "times: {task-lease: 25h}\n", "must be from 1s to 24h"},
        BadConfig{"Life", GOOD "times: {certificate: 1m}\n", "1h for certificates"}),
    [](const auto& each) { return each.param.name; });

TEST(InstanceConfig, TheSmallestFileHasItsDefaults) {
  const auto config = parse_config(GOOD "listen: {agents: '[::1]:9000'}\n", "test.yml");
  EXPECT_EQ(config.api.port, 8443);
  EXPECT_EQ(config.agents.address, "::1");
  EXPECT_EQ(config.agents.port, 9000);
  EXPECT_EQ(config.ca_key, "instance-ca");
  EXPECT_EQ(config.task_lease, std::chrono::seconds(60));
  EXPECT_EQ(config.task_history, std::chrono::hours(24 * 30));
}

TEST(InstanceConfig, TheAddressForAgentsIsAUrlForEachKindOfHost) {
  EXPECT_EQ(https_url("keys.example.org", 8444), "https://keys.example.org:8444");
  EXPECT_EQ(https_url("192.0.2.1", 8444), "https://192.0.2.1:8444");
  EXPECT_EQ(https_url("2001:db8::1", 8444), "https://[2001:db8::1]:8444");
}

}  // namespace
}  // namespace keyagent::instance
