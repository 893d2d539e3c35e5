// SPDX-License-Identifier: Apache-2.0
#pragma once
// A first use of an agent.

#include "agent/cli/cli.h"

namespace keyagent::cli {

// Creates two keys, verifies a signature of the one and opens what was sealed to the other, and
// destroys both. Throws the Error of what failed, and Error{kIntegrity} for a wrong result.
void self_test(Session& session);

}  // namespace keyagent::cli
