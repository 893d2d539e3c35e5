// SPDX-License-Identifier: Apache-2.0
#pragma once
// Statements that several nouns need, inside of a transaction. Internal to the room.

#include "agent/store/engine/database.h"
#include "agent/store/rows.h"

namespace keyagent::store {

// Inside of a transaction: what is done and that it was done are one. Returns its number.
std::int64_t insert_event(Sql& sql, const Event& event);
std::int64_t last_event(Sql& sql);  // its number; 0: there is none

// Inside of a transaction. `lock`: for_share(), for_update() or "".
std::optional<Agent> agent_in(Sql& sql, const std::string& id, const char* lock);
std::optional<Agent> agent_with_key(Sql& sql, const std::string& auth_kid);
bool insert_agent(Sql& sql, const Agent& agent);  // false: as Agents::add()
bool write_agent(Sql& sql, const Agent& agent);   // false: as Agents::update()
bool is_trusted_with(Sql& sql, const std::string& id, const std::string& auth_kid);
bool is_restored(Sql& sql);  // and not accepted yet
bool move_challenge_in(Sql& sql, const Challenge& challenge, const std::string& from);
std::int64_t end_logins(Sql& sql, const std::string& user);  // returns how many
void insert_certificate(Sql& sql, const Certificate& certificate);
void revoke_certificates(Sql& sql, const std::string& agent, WallTime now,
                         const std::string& reason);

// Inside of a transaction: whether a record may come under this key. Until the transaction ends
// anyone who closes the key waits.
bool takes_records(Sql& sql, const std::string& kid);

}  // namespace keyagent::store
