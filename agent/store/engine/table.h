// SPDX-License-Identifier: Apache-2.0
#pragma once
// A table's columns, listed once: SELECT, INSERT, UPDATE and the reading of a row come from this
// list, so that no column is written and not read, or read from another's place.

#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "agent/store/engine/columns.h"
#include "agent/store/engine/sql.h"

namespace keyagent::store {

// A column and the member of RowType that it holds. Made by column<&RowType::member>("name").
template <class RowType>
struct Column : ColumnInfo {
  void (*read)(RowType& to, Row& from) = nullptr;
  Value (*value)(const RowType& from) = nullptr;

  constexpr Column key() const { return with(ColumnRole::kKey); }
  constexpr Column fixed() const { return with(ColumnRole::kFixed); }

 private:
  constexpr Column with(ColumnRole changed) const {
    auto copy = *this;
    copy.role = changed;
    return copy;
  }
};

// A member of a row, or a member of that member.
template <auto First, auto... Rest>
struct Member {
  template <class Owner, class Type>
  static Owner owner_of(Type Owner::*);
  using RowType = decltype(owner_of(First));
  static constexpr auto& of(RowType& row) { return ((row.*First).*....*Rest); }
  static constexpr const auto& of(const RowType& row) { return ((row.*First).*....*Rest); }
  using Type = std::remove_reference_t<decltype(of(std::declval<RowType&>()))>;

  static void read(RowType& to, Row& from) { of(to) = from.next<Type>(); }
  static Value value(const RowType& from) { return of(from); }
  static Value escaped(const RowType& from) { return storable(of(from)); }
};

template <auto... Path>
constexpr auto column(const char* name) {
  using Field = Member<Path...>;
  using Type = typename Field::Type;
  Column<typename Field::RowType> made;
  made.name = name;
  made.is_text = std::is_same_v<Type, std::string> || std::is_same_v<Type, Bytes> ||
                 std::is_same_v<Type, Names>;
  made.read = Field::read;
  made.value = Field::value;
  return made;
}

// Text that others chose: what cannot be stored is escaped (storable()).
template <auto... Path>
constexpr auto escaped_column(const char* name) {
  auto made = column<Path...>(name);
  made.value = Member<Path...>::escaped;
  return made;
}

// Columns are named as in the schema, and each is bound under its own name.
template <class RowType>
class Table {
 public:
  constexpr Table(const char* name, std::span<const Column<RowType>> columns)
      : name_(name), columns_(columns) {}

  const char* name() const { return name_; }
  std::vector<ColumnInfo> columns() const { return {columns_.begin(), columns_.end()}; }

  // "a, b", each with `prefix` in front. In place of those in `without`, which may be large, comes
  // '', which is read as an empty text.
  std::string list(const char* prefix = "", ColumnNames without = {}) const {
    return list_of(columns(), prefix, without);
  }
  // "SELECT a, b FROM table ".
  std::string select(ColumnNames without = {}) const {
    return "SELECT " + list("", without) + " FROM " + name_ + " ";
  }
  // "INSERT INTO table (a, b) VALUES (:a, :b) ", with the bounds of all().
  std::string insert() const {
    return std::string("INSERT INTO ") + name_ + " (" + list() + ") VALUES (" + list(":") + ") ";
  }
  // "UPDATE table SET a = :a, b = :b": those that change, with the bounds of changes().
  std::string update() const { return update_of(name_, changing_of(columns())); }
  // The same of these columns alone, with the bounds of only().
  std::string update(ColumnNames these) const {
    return update_of(name_, those_of(columns(), these));
  }
  // "a = excluded.a, b = excluded.b", of those that change: for ON CONFLICT … DO UPDATE SET.
  std::string excluded() const { return excluded_of(changing_of(columns())); }

  // "a = :old_a AND b = :old_b", of all, with the bounds of old().
  std::string equals_old() const { return equals_of(columns(), "old_"); }

  Bounds all(const RowType& row) const { return bounds_of(row, columns()); }
  Bounds old(const RowType& row) const {
    auto bounds = all(row);
    for (auto& each : bounds) each.name.insert(0, "old_");
    return bounds;
  }
  // Of those that change, and of `more`.
  Bounds changes(const RowType& row, ColumnNames more) const {
    auto bound = changing_of(columns());
    for (const auto& each : those_of(columns(), more)) bound.push_back(each);
    return bounds_of(row, bound);
  }
  Bounds only(const RowType& row, ColumnNames these) const {
    return bounds_of(row, those_of(columns(), these));
  }

  // Reads a row of list().
  RowType operator()(Row& row) const {
    RowType read{};
    for (const auto& each : columns_) each.read(read, row);
    return read;
  }

 private:
  Bounds bounds_of(const RowType& row, const std::vector<ColumnInfo>& which) const {
    Bounds bounds;
    for (const auto& each : columns_)
      if (has(which, each.name)) bounds.push_back({each.name, each.value(row)});
    return bounds;
  }

  const char* name_;
  std::span<const Column<RowType>> columns_;
};

}  // namespace keyagent::store
