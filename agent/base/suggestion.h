// SPDX-License-Identifier: Apache-2.0
#pragma once
// "Did you mean": for names that a person has typed.

#include <set>
#include <string>

namespace keyagent {

// "; did you mean 'NEAREST'?", or nothing when no known name is near.
std::string did_you_mean(const std::string& name, const std::set<std::string>& known);

}  // namespace keyagent
