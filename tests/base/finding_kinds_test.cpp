// SPDX-License-Identifier: Apache-2.0
#include "agent/base/finding_kinds.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

namespace keyagent {
namespace {

using testing::ElementsAre;

constexpr FindingKind kExample{"example", "error", "KEY_STATE", "an example",
                               "restore {name}, or: `keyagent key destroy {kid}`, {unknown: true}; "
                               "`chmod 0700 {path}` and `keyagent approve --kid={kid}`"};

TEST(FindingKinds, Fault164_ACommandTakesAnyKidAndAnyPath) {
  const auto fix =
      fix_of(kExample, {{"name", "the token"}, {"kid", "-abc"}, {"path", "/srv/a b'c"}});
  EXPECT_EQ(fix.text,
            "restore the token, or: keyagent key destroy -- -abc, {unknown: true}; "
            "chmod 0700 '/srv/a b'\\''c' and keyagent approve --kid=-abc");
  EXPECT_THAT(fix.commands,
              ElementsAre("keyagent key destroy -- -abc", "chmod 0700 '/srv/a b'\\''c'",
                          "keyagent approve --kid=-abc"));
  const auto plain = fix_of(kExample, {{"kid", "abc"}, {"path", "/srv/keys"}});
  EXPECT_THAT(plain.commands, ElementsAre("keyagent key destroy abc", "chmod 0700 /srv/keys",
                                          "keyagent approve --kid=abc"));
}

TEST(FindingKinds, EachIdIsUniqueAndEachCommandIsWhole) {
  std::set<std::string_view> ids;
  for (const auto& kind : kFindingKinds) {
    EXPECT_TRUE(ids.insert(kind.id).second) << kind.id;
    EXPECT_EQ(std::count(kind.fix.begin(), kind.fix.end(), '`') % 2, 0) << kind.id;
    const std::set<std::string_view> severities{"error", "warning", "info"};
    EXPECT_TRUE(severities.contains(kind.severity)) << kind.id;
    EXPECT_FALSE(kind.meaning.empty()) << kind.id;
  }
}

}  // namespace
}  // namespace keyagent
