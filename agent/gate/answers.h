// SPDX-License-Identifier: Apache-2.0
#pragma once
// Answers to refused and failed requests, and the name under which a caller's budgets are kept.

#include <cstdint>
#include <string>

#include "agent/base/error.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {

// The answer to `call` that says so. BUSY carries when to try again.
wire::Response failure(const Call& call, const Error& error);

// The same words for a key that does not exist and for one that the caller may not see.
Error denied(const Call& call);
Error not_present(const Call& call);

// "uid 1000"; for the agent's own work what it works on ("credential mail, version 3"), or its
// component. Two callers never share a name, and one caller has one, whatever its process.
std::string caller_of(const policy::Principal& principal);
// Whose turns the caller's requests share in the queue. The agent's own are no user's.
std::uint32_t queue_of(const policy::Principal& principal);

}  // namespace keyagent::gate
