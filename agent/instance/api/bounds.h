// SPDX-License-Identifier: Apache-2.0
#pragma once
// Size limits of the members of a request's body, checked before anything is recorded or stored.
// The openapi documents have the same numbers; a test compares them.

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
// The same for a message of an agent on its link.
void require_bounds_of_message(const Json& message);

}  // namespace keyagent::instance
