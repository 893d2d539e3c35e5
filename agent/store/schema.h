// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tables, as numbered migrations.

#include <span>
#include <vector>

#include "agent/store/engine/database.h"

namespace keyagent::store {

// One step of the schema: statements that run in one transaction, in SQLite's dialect with BIGINT
// and TEXT (schema_words() translates them for PostgreSQL). Never changed once released.
using Migration = std::vector<const char*>;

// From an empty database to the schema of this program. The number of a migration is its place,
// from 1.
std::span<const Migration> migrations();

// Runs what is missing, each in a transaction that no other replica's overlaps. Throws
// Error{kIntegrity} when the database is newer than `steps`, nothing changed; or when it is a
// SQLite file of something else.
void bring_up(Database& database, std::span<const Migration> steps);

int schema_version(Sql& sql);

}  // namespace keyagent::store
