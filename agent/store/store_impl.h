// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the files of this room share of Store.

#include "agent/store/engine/change_notifications.h"
#include "agent/store/engine/database.h"
#include "agent/store/store.h"

namespace keyagent::store {

struct Store::Impl {
  explicit Impl(const Options& options) : db(options) {}
  Database db;
  ChangeNotifications wakeups{db.place()};
};

// Inside of a transaction: what is done and that it was done are one. Returns its number.
std::int64_t insert_event(Sql& sql, const Event& event);

// Inside of a transaction. `lock`: for_share(), for_update() or "".
std::optional<Agent> agent_in(Sql& sql, const std::string& id, const char* lock);
std::optional<Agent> agent_with_key(Sql& sql, const std::string& auth_kid);
bool insert_agent(Sql& sql, const Agent& agent);  // false: as Store::add_agent()
bool write_agent(Sql& sql, const Agent& agent);   // false: as Store::update_agent()
bool is_trusted_with(Sql& sql, const std::string& id, const std::string& auth_kid);
bool is_restored(Sql& sql);  // and not accepted yet
bool move_challenge_in(Sql& sql, const Challenge& challenge, const std::string& from);
void insert_certificate(Sql& sql, const Certificate& certificate);
void revoke_certificates(Sql& sql, const std::string& agent, WallTime now,
                         const std::string& reason);

// Inside of a transaction: whether a record may come under this key. Until the transaction ends
// anyone who closes the key waits.
bool takes_records(Sql& sql, const std::string& kid);

}  // namespace keyagent::store
