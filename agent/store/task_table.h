// SPDX-License-Identifier: Apache-2.0
#pragma once
// The table `tasks`. Internal to the room.

#include "agent/store/engine/table.h"
#include "agent/store/rows.h"

namespace keyagent::store {

// As in the indexes of schema.cpp.
constexpr const char* kQueuedTask = "state = 'queued'";
constexpr const char* kTakenTask = "state IN ('leased', 'started')";

inline constexpr Column<Task> kTaskColumns[] = {
    column<&Task::id>("id").key(),
    column<&Task::number>("number").fixed(),
    column<&Task::key>("submit_key").fixed(),
    column<&Task::digest>("digest").fixed(),
    column<&Task::handler>("handler").fixed(),
    column<&Task::target>("target").fixed(),
    column<&Task::agent>("agent"),
    column<&Task::state>("state"),
    column<&Task::input>("input").fixed(),
    column<&Task::credential>("credential").fixed(),
    column<&Task::priority>("priority").fixed(),
    column<&Task::repeatable>("repeatable").fixed(),
    column<&Task::attempt>("attempt"),
    column<&Task::attempts>("attempts"),
    column<&Task::seconds>("seconds").fixed(),
    column<&Task::not_before>("not_before"),
    column<&Task::submitted_by>("submitted_by").fixed(),
    column<&Task::submitted>("submitted").fixed(),
    column<&Task::changed>("changed"),
    column<&Task::lease>("lease"),
    column<&Task::lease_until>("lease_until"),
    column<&Task::lease_life>("lease_life"),
    column<&Task::cancelling>("cancelling"),
    column<&Task::said>("said"),
    escaped_column<&Task::text>("detail"),
    escaped_column<&Task::result>("result"),
    column<&Task::revision>("revision").fixed(),
};
inline constexpr Table<Task> kTasks{"tasks", kTaskColumns};

// "SELECT … FROM tasks " with empty inputs and results, which may be large.
inline std::string select_short_tasks() {
  return kTasks.select({"input", "result"});
}

}  // namespace keyagent::store
