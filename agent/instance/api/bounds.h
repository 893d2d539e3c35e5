// SPDX-License-Identifier: Apache-2.0
#pragma once
// How large the members of a request's body may be: looked at before anything records or stores
// them. The openapi documents say the same numbers, and a test holds them to that.

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/instance/common/json.h"

namespace keyagent::instance {

inline constexpr std::size_t kMaxItems = 20'000;  // of a list

// In bytes, of the text at `path`: members from the outermost on, joined by dots, without the
// places of lists ("sealed.envelope"). Of an object of any form ("value", "input"): as JSON.
std::size_t max_text(std::string_view path);

// Throws Error{kUsage} that names the member and its limit.
void require_bounds(const Json& body);
// The same of what an agent says on its link.
void require_bounds_of_message(const Json& message);

}  // namespace keyagent::instance
