// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/sql.h"

#include <soci/soci.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::store {
namespace {

long long to_milliseconds(WallTime time) {
  return std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

[[noreturn]] void throw_foreign(std::size_t column) {
  throw Error(Code::kIntegrity, "the store has a row whose column " + std::to_string(column) +
                                    " this program did not write; restore a backup");
}

// Binds all values by name. They must stay where they are until the statement was executed.
void bind(soci::statement& statement, const Bounds& bounds) {
  static const long long kNothing = 0;
  thread_local soci::indicator null;  // SOCI takes no const one
  null = soci::i_null;
  for (const auto& [name, value] : bounds) {
    if (const auto* text = value.text())
      statement.exchange(soci::use(*text, name));
    else if (const auto* number = value.number())
      statement.exchange(soci::use(*number, name));
    else
      statement.exchange(soci::use(kNothing, null, name));
  }
}

// Sends it at once, without a named prepared statement: a name would cost a second round trip, and
// would be unknown on connections behind a pooler.
void prepare(soci::statement& statement, const std::string& text) {
  statement.alloc();
  statement.prepare(text, soci::details::st_one_time_query);
  statement.define_and_bind();
}

}  // namespace

Value::Value(const std::string& text) : value_(text) {
  bool good = text.find('\0') == std::string::npos;
  try {
    if (good) static_cast<void>(nlohmann::json(text).dump());
  } catch (const nlohmann::json::exception&) {
    good = false;
  }
  if (!good) throw Error(Code::kUsage, "a string to store is not UTF-8, or contains NUL");
}

Value::Value(const Bytes& bytes) : value_(to_base64url(bytes)) {}

Value::Value(const Names& list) {
  try {
    value_ = nlohmann::json(list).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(Code::kUsage, "a name in a list to store is not UTF-8");
  }
}

Value::Value(WallTime time) : value_(to_milliseconds(time)) {}

Value::Value(const std::optional<WallTime>& time) {
  if (time) value_ = to_milliseconds(*time);
}

std::string storable(const std::string& text) {
  try {
    static_cast<void>(Value(text));
    return text;
  } catch (const Error&) {
    return escape_controls(text);
  }
}

std::string Row::text() {
  const auto column = column_++;
  try {
    return row_.get<std::string>(column);
  } catch (const std::bad_cast&) {
    throw_foreign(column);
  }
}

// A column of a table is BIGINT on both; an expression like count(*) has no type in SQLite and
// comes as text.
long long Row::number() {
  const auto column = column_++;
  try {
    if (row_.get_properties(column).get_data_type() != soci::dt_string)
      return row_.get<long long>(column);
    return std::stoll(row_.get<std::string>(column));
  } catch (const std::logic_error&) {
    throw_foreign(column);
  } catch (const std::bad_cast&) {
    throw_foreign(column);
  }
}

WallTime Row::time() {
  return WallTime(std::chrono::milliseconds(number()));
}

std::optional<WallTime> Row::optional_time() {
  if (row_.get_indicator(column_) != soci::i_null) return time();
  ++column_;
  return std::nullopt;
}

Bytes Row::bytes() {
  auto decoded = from_base64url(text());
  if (!decoded) throw_foreign(column_ - 1);
  return *std::move(decoded);
}

Names Row::list() {
  try {
    return nlohmann::json::parse(text()).get<Names>();
  } catch (const nlohmann::json::exception&) {
    throw_foreign(column_ - 1);
  }
}

long long Sql::run(const std::string& text, const Bounds& bounds) {
  soci::statement statement(session_);
  bind(statement, bounds);
  prepare(statement, text);
  statement.execute(true);
  return statement.get_affected_rows();
}

long long Sql::next_number(const char* counter) {
  run("UPDATE counters SET value = value + 1 WHERE name = :name", {{"name", counter}});
  return first<long long>("SELECT value FROM counters WHERE name = :name", {{"name", counter}})
      .value();
}

std::int64_t Sql::count(const std::string& query, const Bounds& bounds) {
  return first<std::int64_t>(query, bounds).value();
}

bool Sql::exists(const std::string& query, const Bounds& bounds) {
  return Cursor(*this, query, bounds).next();
}

struct Sql::Cursor::State {
  explicit State(soci::session& session) : statement(session) {}
  soci::row row;
  soci::statement statement;
  bool started = false;
};

Sql::Cursor::Cursor(Sql& sql, const std::string& query, const Bounds& bounds)
    : state_(std::make_unique<State>(sql.session_)) {
  bind(state_->statement, bounds);
  state_->statement.exchange(soci::into(state_->row));
  prepare(state_->statement, query);
}

Sql::Cursor::~Cursor() = default;

bool Sql::Cursor::next() {
  if (state_->started) return state_->statement.fetch();
  state_->started = true;
  return state_->statement.execute(true);
}

Row Sql::Cursor::row() const {
  return Row(state_->row);
}

}  // namespace keyagent::store
