// SPDX-License-Identifier: Apache-2.0
#pragma once
// The only file with code for a specific database: how a connection is opened, how a transaction
// begins, and what its errors mean.

#include <soci/soci.h>

#include <string>

#include "agent/base/error.h"
#include "agent/store/engine/sql.h"

namespace keyagent::store {

// Where the store is. Throws Error{kConfiguration} for another scheme, a relative path, or a
// password in the URL (it would be seen in the file, and in `ps` of anyone who passes it on).
struct Place {
  explicit Place(const std::string& url);
  Engine engine;
  std::string path;     // SQLite's file
  std::string connect;  // for SOCI
};

// What an error of the database means.
struct Fault {
  Code code = Code::kInternal;
  bool lost = false;   // the connection is of no more use
  bool again = false;  // the transaction was undone and may be run again: a deadlock
  std::string text;    // one line, without any value that was bound
};
Fault fault_of(const soci::soci_error& error, soci::session& session, const Place& place);

// Creates the file (0600) and its folder (0700) if missing. Throws Error{kConfiguration} when
// another user may read or write it.
void prepare_file(const Place& place);
// An empty file, 0600. False: something of this name is there. Throws Error{kConfiguration}.
bool make_empty_file(const std::string& path);
// Opens and sets what every connection needs. Throws soci::soci_error, Error{kConfiguration}.
void open(soci::session& session, const Place& place);
// A transaction that will write. SQLite takes its one writer's place here, where it can still wait
// for it.
void begin(soci::session& session, const Place& place);
// One that only reads, and sees all of it as it was at one moment.
void begin_snapshot(soci::session& session, const Place& place);

// Translates `ddl` for the engine. TEXT is compared by bytes on PostgreSQL too: the same order on
// both engines, and no index that a new collation of the C library corrupts.
std::string schema_words(Engine engine, const std::string& ddl);
// Only one at a time gets past this until its transaction ends. Throws Error{kConfiguration} for a
// database that does not keep UTF-8.
void lock_schema(Sql& sql);
// "sqlite 3.40.1"
std::string engine_version(Sql& sql);

}  // namespace keyagent::store
