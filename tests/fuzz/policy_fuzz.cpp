// SPDX-License-Identifier: Apache-2.0
// The policy: whatever stands in the file, every query has an answer, and only a rule that allows
// can allow.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/bytes.h"
#include "agent/base/error.h"
#include "agent/policy/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  try {
    const auto policy = policy::parse_policy(as_text({data, size}), "policy.yml");
    policy::Principal user;
    user.uid = 1000;
    user.groups = {0, 100};
    for (const auto action : {policy::Action::kOpen, policy::Action::kStatus}) {
      const auto decision = policy::decide(*policy, user, {action, "backup-1", "transport"});
      const auto rule = std::find_if(policy->rules.begin(), policy->rules.end(),
                                     [&](const auto& each) { return each.name == decision.rule; });
      if (decision.allowed && (rule == policy->rules.end() || !rule->allow)) std::abort();
    }
  } catch (const Error& error) {
    if (error.code() != Code::kConfiguration) std::abort();
  }
  return 0;
}
