// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of `tasks`, for the files of this room that read them.

#include <string>

#include "agent/store/store_impl.h"

namespace keyagent::store {

// As in the indexes of schema.cpp.
constexpr const char* kQueuedTask = "state = 'queued'";
constexpr const char* kTakenTask = "state IN ('leased', 'started')";

// "SELECT … FROM tasks "; what may be large only where it is asked for.
std::string select_tasks(bool whole);
Task task_of(const Row& row);

}  // namespace keyagent::store
