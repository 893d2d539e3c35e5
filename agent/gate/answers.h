// SPDX-License-Identifier: Apache-2.0
#pragma once
// Answers to refused and failed requests, and the name under which a caller's budgets are kept.

#include <cstdint>
#include <string>

#include "agent/base/error.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {

// The response to `call` that carries `error`. BUSY includes the time to wait before a retry.
wire::Response failure(const Call& call, const Error& error);

// The same text for a missing key and for one that the caller may not see.
Error denied(const Call& call);
Error not_present(const Call& call);

// The name that budgets and logs use for a caller: "uid 1000"; for the agent's internal work its
// subject ("credential mail, version 3") or its component. Unique per caller, and the same for all
// of its processes.
std::string caller_of(const policy::Principal& principal);
// The queue (a uid) that the caller's requests share. The agent's internal requests have their own.
std::uint32_t queue_of(const policy::Principal& principal);

}  // namespace keyagent::gate
