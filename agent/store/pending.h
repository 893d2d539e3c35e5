// SPDX-License-Identifier: Apache-2.0
#pragma once
// Agents that wait for a person, inside of a transaction. Internal to the room.

#include "agent/store/engine/database.h"
#include "agent/store/enroll_rows.h"

namespace keyagent::store {

// kPending: its row, or the one that it has already (asked again; a rejected one waits again).
// kFull: no room, for its address or at all. kOtherTransport: it waits with another transport key.
EnrollOutcome add_pending(Sql& sql, const Enrollment& enrollment, const PendingLimits& limits);
// Not expired; locked until the transaction ends.
std::optional<PendingAgent> pending_in(Sql& sql, const std::string& id, const std::string& auth_kid,
                                       WallTime now);
void drop_pending(Sql& sql, const std::string& id);

}  // namespace keyagent::store
