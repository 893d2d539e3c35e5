// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "agent/policy/policy.h"

namespace keyagent::policy {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string fault_of(const std::string& yaml) {
  try {
    parse_policy(yaml, "policy.yml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kConfiguration);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << yaml;
  return {};
}

std::string rule(const std::string& fields) {
  return "rules:\n  - {" + fields + "}\n";
}

TEST(PolicyFile, ReadsNamesOfUsersAndGroups) {
  const auto policy =
      parse_policy(rule("name: r, allow: [open, seal], keys: a, purposes: [transport, storage], "
                        "who: {user: [root, \"61185\"], group: root}"),
                   "policy.yml");
  ASSERT_EQ(policy->rules.size(), 1U);
  const Rule& read = policy->rules[0];
  EXPECT_THAT(read.uids, ElementsAre(0, 61185));
  EXPECT_THAT(read.gids, ElementsAre(0));
  EXPECT_THAT(read.actions, ElementsAre(Action::kOpen, Action::kSeal));
  EXPECT_THAT(read.keys, ElementsAre("a"));
  EXPECT_THAT(read.purposes, ElementsAre("transport", "storage"));
  EXPECT_EQ(read.where, "policy.yml:2");
  EXPECT_FALSE(read.anyone);
}

TEST(PolicyFile, Fault122_EachMistakeIsRefusedAndNamed) {
  const std::string who = "who: {anyone: true}";
  const std::pair<std::string, const char*> kMistakes[] = {
      {rule("allow: open, " + who), "'name' is missing"},
      {rule("name: '', allow: open, " + who), "must not be empty"},
      {rule("name: r, " + who), "either 'allow' or 'deny'"},
      {rule("name: r, allow: open, deny: sign, " + who), "either 'allow' or 'deny'"},
      {rule("name: r, allow: [], " + who), "has no action"},
      {rule("name: r, allow: unwrap, " + who), "unknown action 'unwrap'"},
      {rule("name: r, allow: open"), "has no 'who'"},
      {rule("name: r, allow: open, who: {}"), "has no 'who'"},
      {rule("name: r, allow: open, who: {anyone: false}"), "has no 'who'"},
      {rule("name: r, allow: open, who: {user: nobody-of-this-name}"),
       "no user 'nobody-of-this-name'"},
      {rule("name: r, allow: open, who: {group: nobody-of-this-name}"),
       "no group 'nobody-of-this-name'"},
      {rule("name: r, allow: open, who: {user: \"-1\"}"), "no user '-1'"},
      {rule("name: r, allow: open, who: {user: \"4294967296\"}"), "no user"},
      {rule("name: r, allow: open, who: {uid: 1}"), "has no 'who'"},
      {rule("name: r, allow: open, purposes: transprot, " + who), "unknown purpose 'transprot'"},
      {rule("name: r, allow: open, keys: [], " + who), "'keys' is empty"},
      {rule("name: r, allow: open, purposes: [], " + who), "'purposes' is empty"},
      {rule("name: r, allow: open, key: a, " + who), "did you mean 'keys'"},
      {rule("name: r, allow: export, " + who), "without naming the targets: set 'peers'"},
      {rule("name: r, allow: export, peers: [], " + who), "'peers' is empty"},
      {rule("name: r, allow: export, peers: [host.example.org], " + who), "is not an identity"},
      {rule("name: r, allow: import, peers: [0123456789abcdef0123456789abcdef], " + who),
       "is not an identity"},
      {rule("name: r, allow: open, credentials: [db], " + who), "'credentials' applies to tasks"},
      {rule("name: r, allow: credential, credentials: [db], " + who), "name them in 'keys'"},
      {rule("name: r, deny: open, credentials: [], " + who), "'credentials' applies to tasks"},
      {rule("name: default, allow: open, " + who), "'default' is taken"},
      {rule("name: internal, allow: open, " + who), "'internal' is taken"},
      {rule("name: r, allow: open, " + who) + "  - {name: r, deny: open, " + who + "}\n",
       "policy.yml:3: the rule name 'r' is taken"},
      {"rules: yes\n", "'rules' must be a list"},
      {"rule: []\n", "did you mean 'rules'"},
  };
  for (const auto& [yaml, expected] : kMistakes) {
    const auto text = fault_of(yaml);
    EXPECT_THAT(text, HasSubstr(expected)) << yaml;
    EXPECT_THAT(text, HasSubstr("policy.yml:")) << yaml;
  }
}

TEST(PolicyFile, NoRulesIsAPolicyThatDenies) {
  EXPECT_TRUE(parse_policy("", "policy.yml")->rules.empty());
  EXPECT_TRUE(parse_policy("rules: []\n", "policy.yml")->rules.empty());
}

}  // namespace
}  // namespace keyagent::policy
