// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "agent/policy/policy.h"

namespace keyagent::policy {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kPolicy = R"(
rules:
  - name: backup-opens
    allow: [open, public]
    keys: ["backup-*"]
    purposes: [transport]
    who: {user: "1001"}
  - name: signers
    allow: sign
    keys: [release, "nightly-*-key"]
    who: {group: "2000"}
  - name: never-prod
    deny: [open, sign]
    keys: ["*-prod"]
    who: {anyone: true}
  - name: operators
    allow: [open, sign, create, destroy, status, audit, admin, public, seal]
    who: {user: ["1002"], group: ["2001"]}
  - name: everyone-sees
    allow: [public, status]
    who: {anyone: true}
)";

Principal user(std::uint32_t uid, std::uint32_t gid = 100, std::vector<std::uint32_t> groups = {}) {
  Principal principal;
  principal.uid = uid;
  principal.gid = gid;
  principal.groups = std::move(groups);
  return principal;
}

Principal by(Principal::Voucher voucher, std::string name) {
  Principal principal;
  principal.voucher = voucher;
  principal.uid = 1002;  // must not count
  principal.name = std::move(name);
  return principal;
}

struct Row {
  const char* why;
  Principal who;
  Query query;
  bool allowed;
  const char* rule;
};

TEST(Decide, R5_TableOfDecisionsNamesTheDecidingRule) {
  const auto policy = parse_policy(kPolicy, "policy.yml");
  const Row kRows[] = {
      {"the rule's own user",
       user(1001),
       {Action::kOpen, "backup-7", "transport"},
       true,
       "backup-opens"},
      {"another key", user(1001), {Action::kOpen, "mail", "transport"}, false, "default"},
      {"another purpose", user(1001), {Action::kOpen, "backup-7", "storage"}, false, "default"},
      {"another action", user(1001), {Action::kSign, "backup-7", "transport"}, false, "default"},
      {"another user", user(1003), {Action::kOpen, "backup-7", "transport"}, false, "default"},
      {"pattern needs its prefix",
       user(1001),
       {Action::kOpen, "my-backup-7", "transport"},
       false,
       "default"},
      {"primary group", user(7, 2000), {Action::kSign, "release", "sign"}, true, "signers"},
      {"supplementary group",
       user(7, 1, {3, 2000}),
       {Action::kSign, "release", "sign"},
       true,
       "signers"},
      {"star inside", user(7, 2000), {Action::kSign, "nightly-2026-key", "sign"}, true, "signers"},
      {"star inside, wrong end",
       user(7, 2000),
       {Action::kSign, "nightly-2026-keys", "sign"},
       false,
       "default"},
      {"a uid is not a gid", user(2000), {Action::kSign, "release", "sign"}, false, "default"},
      {"deny wins over a later allow",
       user(1002),
       {Action::kSign, "db-prod", "sign"},
       false,
       "never-prod"},
      {"deny wins over an earlier allow",
       user(1001),
       {Action::kOpen, "backup-prod", "transport"},
       false,
       "never-prod"},
      {"deny is for its actions only",
       user(1002),
       {Action::kDestroy, "db-prod", "sign"},
       true,
       "operators"},
      {"root has no implicit privilege",
       user(0),
       {Action::kSign, "release", "sign"},
       false,
       "default"},
      {"everyone sees", user(4000), {Action::kPublic, "release", "sign"}, true, "everyone-sees"},
      {"action without a key", user(4000), {Action::kStatus, "", ""}, true, "everyone-sees"},
      {"audit is not for everyone", user(4000), {Action::kAudit, "", ""}, false, "default"},
      {"the agent itself",
       by(Principal::Voucher::kInternal, "audit"),
       {Action::kSign, "audit", "audit"},
       true,
       "internal"},
      {"a peer named like a user",
       by(Principal::Voucher::kTls, "1002"),
       {Action::kSign, "release", "sign"},
       false,
       "default"},
      {"a peer and an 'anyone' of this host",
       by(Principal::Voucher::kTls, "x"),
       {Action::kStatus, "", ""},
       false,
       "default"},
  };
  for (const Row& row : kRows) {
    const Decision decision = decide(*policy, row.who, row.query);
    EXPECT_EQ(decision.allowed, row.allowed) << row.why;
    EXPECT_EQ(decision.rule, row.rule) << row.why;
    EXPECT_THAT(decision.reason, HasSubstr(row.who.text().substr(row.who.text().find(':') + 1)))
        << row.why;
  }
}

TEST(Decide, R5_ReasonNamesRuleAndPlace) {
  const auto policy = parse_policy(kPolicy, "/etc/keyagent/policy.yml");
  const Decision decision = decide(*policy, user(1001), {Action::kOpen, "a-prod", "transport"});
  EXPECT_EQ(decision.where, "/etc/keyagent/policy.yml:12");
  EXPECT_THAT(decision.reason,
              HasSubstr("'never-prod' (/etc/keyagent/policy.yml:12) denies uid 1001"));
}

// Two callers, each with its own key: naming the other's key gets neither anything, whatever
// the action.
TEST(Decide, Fault097_KeyOfAnotherIsRefusedForEveryAction) {
  const auto policy = parse_policy(R"(
rules:
  - {name: a, allow: [open, seal, sign, public, create, destroy], keys: [key-a], who: {user: "1001"}}
  - {name: b, allow: [open, seal, sign, public, create, destroy], keys: [key-b], who: {user: "1002"}}
)",
                                   "policy.yml");
  for (const char* action : {"open", "seal", "sign", "public", "create", "destroy"}) {
    for (const std::uint32_t uid : {1001U, 1002U}) {
      const std::string own = uid == 1001 ? "key-a" : "key-b";
      const std::string others = uid == 1001 ? "key-b" : "key-a";
      EXPECT_TRUE(decide(*policy, user(uid), {*action_of(action), own, "sign"}).allowed);
      EXPECT_FALSE(decide(*policy, user(uid), {*action_of(action), others, "sign"}).allowed)
          << action;
    }
  }
}

TEST(Decide, EmptyPolicyDeniesEverything) {
  for (const char* name : {"open", "seal", "sign", "public", "create", "destroy", "rekey",
                           "suspend", "reseal", "decrypt", "agree", "status", "audit", "admin",
                           "credential", "work", "export", "import", "prove"}) {
    ASSERT_TRUE(action_of(name)) << name;
    EXPECT_EQ(name_of(*action_of(name)), name);
    EXPECT_FALSE(decide(Policy{}, user(0), {*action_of(name), "k", "sign"}).allowed) << name;
  }
  EXPECT_FALSE(action_of("unwrap"));
}

// Each hands out more than the action beside it: only a rule that names them gives them.
TEST(Decide, DecryptAndAgreeAreImpliedByNoOtherAction) {
  const auto policy = parse_policy(R"(rules:
  - name: everything-else
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, reseal, status, audit, admin]
    who: {anyone: true}
  - {name: mail, allow: [decrypt], keys: [mail], purposes: [transport], who: {user: "1001"}}
)",
                                   "policy.yml");
  for (const Action action : {Action::kDecrypt, Action::kAgree}) {
    EXPECT_FALSE(decide(*policy, user(0), {action, "mail", "transport"}).allowed);
    EXPECT_FALSE(decide(*policy, user(1001), {action, "other", "transport"}).allowed);
  }
  EXPECT_TRUE(decide(*policy, user(1001), {Action::kDecrypt, "mail", "transport"}).allowed);
  EXPECT_FALSE(decide(*policy, user(1001), {Action::kDecrypt, "mail", "sign"}).allowed);
  EXPECT_FALSE(decide(*policy, user(1001), {Action::kAgree, "mail", "transport"}).allowed);
}

// MISSION X6: a key is exported only to peers that a rule names.
TEST(Decide, X6_ExportIsAllowedOnlyForThePeersOfARule) {
  const std::string a(43, 'A'), b(43, 'Q'), c(43, 'g');
  const auto policy = parse_policy(
      "rules:\n  - {name: all-but, allow: [open, sign, public, create, "
      "decrypt, admin, import], keys: [\"data.*\"], who: {anyone: true}}\n"
      "  - {name: go, allow: [export, public], keys: [\"data.*\"], peers: [" +
          a + ", " + c + "], who: {user: \"1001\"}}\n" +
          "  - {name: not-c, deny: [export, import], peers: [" + c + "], who: {anyone: true}}\n",
      "policy.yml");
  const auto rule_for = [&](std::uint32_t uid, Action action, const std::string& peer) {
    return decide(*policy, user(uid), {action, "data.x", "storage", peer}).rule;
  };
  EXPECT_EQ(rule_for(1001, Action::kExport, a), "go");
  EXPECT_EQ(rule_for(1001, Action::kExport, b), "default");
  EXPECT_EQ(rule_for(1001, Action::kExport, ""), "default");
  EXPECT_EQ(rule_for(1001, Action::kExport, c), "not-c");
  EXPECT_EQ(rule_for(1002, Action::kExport, a), "default");
  EXPECT_EQ(rule_for(1001, Action::kImport, b), "all-but");
  EXPECT_EQ(rule_for(1001, Action::kImport, c), "not-c");
  EXPECT_EQ(rule_for(1001, Action::kImport, ""), "all-but") << "an offer has no peer yet";
  EXPECT_EQ(rule_for(1001, Action::kPublic, ""), "all-but") << "peers do not limit it";
  EXPECT_THAT(decide(*policy, user(1001), {Action::kExport, "data.x", "storage", b}).reason,
              HasSubstr("with key data.x for " + b));
}

// Used before the key is known: a deny rule for some keys does not affect other keys.
TEST(Decide, AllowsSomeUsesAllowRulesOfTheCallerOnly) {
  const auto policy = parse_policy(R"(rules:
  - {name: not-payroll, deny: [open], keys: ["payroll*"], who: {user: ["1001"]}}
  - {name: backups, allow: [open], keys: ["backup-*"], who: {user: ["1001"]}}
  - {name: signs, allow: [sign], who: {user: ["1002"]}}
)",
                                   "policy.yml");
  EXPECT_TRUE(allows_some(*policy, user(1001), Action::kOpen));
  EXPECT_FALSE(allows_some(*policy, user(1001), Action::kSign));
  EXPECT_FALSE(allows_some(*policy, user(1002), Action::kOpen));
  EXPECT_FALSE(allows_some(*policy, by(Principal::Voucher::kTls, "1001"), Action::kOpen));
}

// A pattern that would take a backtracking matcher forever.
TEST(Decide, PatternsTakeLinearTime) {
  Rule rule;
  rule.name = "stars";
  rule.actions = {Action::kSign};
  rule.anyone = true;
  std::string pattern;
  for (int i = 0; i < 30; ++i) pattern += "a*";
  rule.keys = {pattern + "b"};
  EXPECT_FALSE(
      decide(Policy{{rule}}, user(1), {Action::kSign, std::string(63, 'a'), "sign"}).allowed);
  EXPECT_TRUE(
      decide(Policy{{rule}}, user(1), {Action::kSign, std::string(62, 'a') + "b", "sign"}).allowed);
}

TEST(Principal, TextNamesTheKindOfIdentityAndItsName) {
  EXPECT_EQ(user(1000).text(), "uid 1000");
  EXPECT_EQ(by(Principal::Voucher::kTls, "1000").text(), "tls:1000");
  EXPECT_EQ(by(Principal::Voucher::kInternal, "audit").text(), "internal:audit");
}

TEST(Decide, Fault161_CredentialsOfTasksAreNamedByTheRuleThatAllowsWork) {
  const auto policy = parse_policy(R"(
rules:
  - {name: deploys, allow: [work], keys: ["deploy-*"], credentials: ["db-*"], who: {user: "7"}}
  - {name: bare, allow: [work], keys: [report], who: {user: "7"}}
  - {name: not-root, deny: [work], credentials: [db-root], who: {anyone: true}}
)",
                                   "policy.yml");
  const auto may = [&](const std::string& handler, const std::string& credential) {
    Query query{Action::kWork, handler, {}};
    query.credential = credential;
    return decide(*policy, user(7), query).allowed;
  };
  EXPECT_TRUE(may("deploy-web", ""));
  EXPECT_TRUE(may("deploy-web", "db-main"));
  EXPECT_FALSE(may("deploy-web", "db-root"));
  EXPECT_FALSE(may("deploy-web", "api"));
  EXPECT_TRUE(may("report", ""));
  EXPECT_FALSE(may("report", "db-main"));
  EXPECT_THROW(parse_policy("rules:\n  - {name: a, allow: [open], credentials: [b], "
                            "who: {user: \"7\"}}\n",
                            "policy.yml"),
               Error);
}

}  // namespace
}  // namespace keyagent::policy
