// SPDX-License-Identifier: Apache-2.0
#pragma once
// A ledger whose folder cannot be written, read as it is on the disk.

#include <sqlite3.h>

#include <filesystem>

namespace keyagent::keys {

// A connection to a copy in memory, which the caller closes. What is only in the write-ahead log is
// in it: SQLite itself would have to write beside the file for that. Throws Error{kConfiguration}
// when the file cannot be read or no temporary folder can be written.
sqlite3* open_in_memory(const std::filesystem::path& file);

}  // namespace keyagent::keys
