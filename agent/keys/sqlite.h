// SPDX-License-Identifier: Apache-2.0
#pragma once
// One prepared SQLite statement of the ledger.

#include <sqlite3.h>

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/bytes.h"
#include "agent/base/error.h"

namespace keyagent::keys {

// Not thread-safe; lives shorter than its connection. Every method throws Error{kIntegrity} for a
// damaged file and Error{kInternal} for one that cannot be used.
class Statement {
 public:
  Statement(sqlite3* db, const std::string& sql) : db_(db) {
    if (sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK) fail();
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;

  Statement& text(std::string_view value) {
    sqlite3_bind_text(statement_, ++bound_, value.empty() ? "" : value.data(),
                      static_cast<int>(value.size()), SQLITE_TRANSIENT);
    return *this;
  }
  Statement& number(std::int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  Statement& blob(const Bytes& value) {
    static constexpr std::uint8_t kNothing = 0;
    sqlite3_bind_blob(statement_, ++bound_, value.empty() ? &kNothing : value.data(),
                      static_cast<int>(value.size()), SQLITE_TRANSIENT);
    return *this;
  }
  // True: a row is there to be read.
  bool step() {
    const int rc = sqlite3_step(statement_);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) fail();
    return rc == SQLITE_ROW;
  }
  int columns() const { return sqlite3_column_count(statement_); }
  std::string text_at(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return text == nullptr
               ? std::string()
               : std::string(text,
                             static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  std::int64_t number_at(int column) const { return sqlite3_column_int64(statement_, column); }
  Bytes blob_at(int column) const {
    const auto* bytes = static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_, column));
    return bytes == nullptr ? Bytes()
                            : Bytes(bytes, bytes + sqlite3_column_bytes(statement_, column));
  }

 private:
  [[noreturn]] void fail() const {
    const int rc = sqlite3_errcode(db_);
    const bool damaged = rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB;
    throw Error(damaged ? Code::kIntegrity : Code::kInternal,
                std::string("the ledger ") + (damaged ? "is damaged" : "cannot be used") + ": " +
                    sqlite3_errmsg(db_));
  }
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

}  // namespace keyagent::keys
