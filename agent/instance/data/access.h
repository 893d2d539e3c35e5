// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who may do what with the data of a specification. Pure; what no rule allows is denied.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/instance/common/json.h"

namespace keyagent::instance {

enum class DataUse { kEncrypt, kDecrypt, kExchange };
std::string_view name_of(DataUse use);
std::optional<DataUse> data_use_of(std::string_view name);

// kTrack: allowed, and each use is an event.
enum class Effect { kAllow, kTrack, kReject };
std::string_view name_of(Effect effect);

struct AccessRule {
  std::string name;  // unique in its list
  Effect effect = Effect::kReject;
  std::vector<DataUse> uses;
  std::vector<std::string> roles, users;  // anyone who is in one of them
};

struct AccessDecision {
  bool allowed = false, tracked = false;
  std::string rule;  // that decided; "default" when none did
};

// [{"rule":"app-writes","effect":"allow","uses":["encrypt"],"roles":["operator"],"users":["app"]}]
// Throws Error{kUsage} with the problem.
std::vector<AccessRule> read_access(const Json& list);
Json access_json(const std::vector<AccessRule>& rules);

// Whether `after` lets a user decrypt, or give keys away, that `before` does not, also because a
// rule that rejects is gone.
bool gives_access(const std::vector<AccessRule>& before, const std::vector<AccessRule>& after);

// A rule that rejects wins over all others, one that tracks over those that only allow.
AccessDecision decide(const std::vector<AccessRule>& rules, DataUse use, std::string_view role,
                      const std::string& user);

}  // namespace keyagent::instance
