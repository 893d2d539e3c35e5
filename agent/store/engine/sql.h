// SPDX-License-Identifier: Apache-2.0
#pragma once
// Statements with their values, over SOCI: what differs between the back ends in reading and
// binding ends here. A value always reaches the database by bind, never inside the statement's
// text.

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"

namespace soci {
class row;
class session;
}  // namespace soci

namespace keyagent::store {

enum class Engine { kSqlite, kPostgres };

using Names = std::vector<std::string>;

// A value as a column keeps it. Integers, booleans (0, 1) and times (milliseconds since 1970) are
// BIGINT; text, binary (base64url) and lists (a JSON array) are TEXT. Text must be UTF-8 without
// NUL, because PostgreSQL keeps no other: Error{kUsage} for the rest, on both databases.
class Value {
 public:
  Value(const std::string& text);  // NOLINT(google-explicit-constructor): reads as the value
  Value(const char* text) : Value(std::string(text)) {}
  Value(const Bytes& bytes);
  Value(const Names& list);
  Value(WallTime time);
  Value(const std::optional<WallTime>& time);
  template <class Number, class = std::enable_if_t<std::is_integral_v<Number>>>
  Value(Number number) : value_(static_cast<long long>(number)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  const std::string* text() const { return std::get_if<std::string>(&value_); }
  const long long* number() const { return std::get_if<long long>(&value_); }

 private:
  std::variant<std::monostate, long long, std::string> value_;
};

// `:name` in the statement's text.
struct Bound {
  const char* name;
  Value value;
};
using Bounds = std::vector<Bound>;

// One row of a result, by column from 0. Lives as long as the call that shows it. Throws
// Error{kIntegrity} when the column does not hold what is asked for.
class Row {
 public:
  explicit Row(const soci::row& row) : row_(row) {}
  std::string text(std::size_t column) const;
  long long number(std::size_t column) const;
  bool flag(std::size_t column) const { return number(column) != 0; }
  WallTime time(std::size_t column) const;
  std::optional<WallTime> optional_time(std::size_t column) const;
  Bytes bytes(std::size_t column) const;
  Names list(std::size_t column) const;

 private:
  const soci::row& row_;
};

// A leased connection. Not thread-safe. Throws soci::soci_error, which Database turns into Error.
class Sql {
 public:
  Sql(soci::session& session, Engine engine) : session_(session), engine_(engine) {}
  Engine engine() const { return engine_; }

  // Returns how many rows were changed.
  long long run(const std::string& statement, const Bounds& bounds = {});

  // make(const Row&) of each row.
  template <class Make>
  auto all(const std::string& query, const Bounds& bounds, const Make& make) {
    std::vector<std::invoke_result_t<const Make&, const Row&>> found;
    Cursor cursor(*this, query, bounds);
    while (cursor.next()) found.push_back(make(cursor.row()));
    return found;
  }
  // make(const Row&) of the first row; nullopt when there is none.
  template <class Make>
  auto first(const std::string& query, const Bounds& bounds, const Make& make) {
    std::optional<std::invoke_result_t<const Make&, const Row&>> found;
    Cursor cursor(*this, query, bounds);
    if (cursor.next()) found.emplace(make(cursor.row()));
    return found;
  }

  // The next number of a row of the table `counters`. It is locked until the transaction ends, so
  // numbers have no gaps, and a smaller one is never committed after a greater one.
  long long next_number(const char* counter);

  // To append to a SELECT whose rows must stay as they were read until the transaction ends. SQLite
  // has one writer at a time and needs nothing.
  const char* for_share() const { return engine_ == Engine::kPostgres ? " FOR SHARE" : ""; }
  // The same for rows that this transaction will change.
  const char* for_update() const { return engine_ == Engine::kPostgres ? " FOR UPDATE" : ""; }

 private:
  class Cursor {
   public:
    Cursor(Sql& sql, const std::string& query, const Bounds& bounds);
    ~Cursor();
    Cursor(const Cursor&) = delete;
    bool next();
    Row row() const;

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

  soci::session& session_;
  Engine engine_;
};

}  // namespace keyagent::store
