// SPDX-License-Identifier: Apache-2.0
#pragma once
// Statements with their values, over SOCI: what differs between the back ends in reading and
// binding ends here. A value always reaches the database by bind, never inside the statement's
// text.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
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
  Value(std::chrono::milliseconds duration) : value_(static_cast<long long>(duration.count())) {}
  template <class Number, class = std::enable_if_t<std::is_integral_v<Number>>>
  Value(Number number) : value_(static_cast<long long>(number)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  const std::string* text() const { return std::get_if<std::string>(&value_); }
  const long long* number() const { return std::get_if<long long>(&value_); }

 private:
  std::variant<std::monostate, long long, std::string> value_;
};

// Text that others chose and that is shown to people only: what cannot be stored is escaped, so
// that it cannot stop the record it stands in.
std::string storable(const std::string& text);

// `:name` in the statement's text.
struct Bound {
  std::string name;
  Value value;
};
using Bounds = std::vector<Bound>;

// One row of a result, read column by column. Valid during the callback that receives it. Throws
// Error{kIntegrity} when the column does not hold the requested type.
class Row {
 public:
  explicit Row(const soci::row& row) : row_(row) {}

  // What the next column has: text, number, flag, time, milliseconds, binary or list.
  template <class T>
  T next() {
    if constexpr (std::is_same_v<T, std::string>)
      return text();
    else if constexpr (std::is_same_v<T, bool>)
      return number() != 0;
    else if constexpr (std::is_same_v<T, Bytes>)
      return bytes();
    else if constexpr (std::is_same_v<T, Names>)
      return list();
    else if constexpr (std::is_same_v<T, WallTime>)
      return time();
    else if constexpr (std::is_same_v<T, std::optional<WallTime>>)
      return optional_time();
    else if constexpr (std::is_same_v<T, std::chrono::milliseconds>)
      return std::chrono::milliseconds(number());
    else
      return static_cast<std::enable_if_t<std::is_integral_v<T>, T>>(number());
  }

 private:
  std::string text();
  long long number();
  WallTime time();
  std::optional<WallTime> optional_time();
  Bytes bytes();
  Names list();

  const soci::row& row_;
  std::size_t column_ = 0;  // the next one
};

// What a row of these columns is read as: the value, a pair or a tuple.
template <class... Types>
struct FieldsOf {
  using Type = std::tuple<Types...>;
};
template <class A, class B>
struct FieldsOf<A, B> {
  using Type = std::pair<A, B>;
};
template <class A>
struct FieldsOf<A> {
  using Type = A;
};

// A leased connection. Not thread-safe. Throws soci::soci_error, which Database turns into Error.
class Sql {
 public:
  Sql(soci::session& session, Engine engine) : session_(session), engine_(engine) {}
  Engine engine() const { return engine_; }

  // Returns how many rows were changed.
  long long run(const std::string& statement, const Bounds& bounds = {});

  // make(Row&) of each row. A Table makes its rows.
  template <class Make>
  auto all(const std::string& query, const Bounds& bounds, const Make& make) {
    std::vector<std::invoke_result_t<const Make&, Row&>> found;
    Cursor cursor(*this, query, bounds);
    while (cursor.next()) {
      Row row = cursor.row();
      found.push_back(make(row));
    }
    return found;
  }
  // make(Row&) of the first row; nullopt when there is none.
  template <class Make>
  auto first(const std::string& query, const Bounds& bounds, const Make& make) {
    std::optional<std::invoke_result_t<const Make&, Row&>> found;
    Cursor cursor(*this, query, bounds);
    if (cursor.next()) {
      Row row = cursor.row();
      found.emplace(make(row));
    }
    return found;
  }
  // The same for columns of these types: all<std::string>("SELECT name …"). Several make a pair or
  // a tuple.
  template <class... Types>
  auto all(const std::string& query, const Bounds& bounds = {}) {
    return all(query, bounds, read_fields<Types...>);
  }
  template <class... Types>
  auto first(const std::string& query, const Bounds& bounds = {}) {
    return first(query, bounds, read_fields<Types...>);
  }
  // Of a query whose result is one number.
  std::int64_t count(const std::string& query, const Bounds& bounds = {});
  // Whether the query has a row.
  bool exists(const std::string& query, const Bounds& bounds = {});

  // The next number of a row of the table `counters`. It is locked until the transaction ends, so
  // numbers have no gaps, and a smaller one is never committed after a greater one.
  long long next_number(const char* counter);

  // To append to a SELECT whose rows must stay as they were read until the transaction ends. SQLite
  // has one writer at a time and needs nothing.
  const char* for_share() const { return engine_ == Engine::kPostgres ? " FOR SHARE" : ""; }
  // The same for rows that this transaction will change.
  const char* for_update() const { return engine_ == Engine::kPostgres ? " FOR UPDATE" : ""; }

 private:
  template <class... Types>
  static typename FieldsOf<Types...>::Type read_fields(Row& row) {
    return typename FieldsOf<Types...>::Type{row.next<Types>()...};  // in this order
  }

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
