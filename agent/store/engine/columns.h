// SPDX-License-Identifier: Apache-2.0
#pragma once
// The columns of a table, and the parts of statements that list them (table.h).

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace keyagent::store {

enum class ColumnRole {
  kKey,      // identifies the row
  kFixed,    // written by an INSERT; Table::update() leaves it
  kChanging  // written by both
};

// Column properties that do not depend on the row's type.
struct ColumnInfo {
  const char* name = nullptr;
  ColumnRole role = ColumnRole::kChanging;
  bool is_text = false;  // TEXT in the schema; otherwise BIGINT
};
using ColumnNames = std::initializer_list<const char*>;

std::vector<ColumnInfo> changing_of(const std::vector<ColumnInfo>& columns);
// Throws std::logic_error when one of the names is not a column.
std::vector<ColumnInfo> those_of(const std::vector<ColumnInfo>& columns, ColumnNames names);
bool has(const std::vector<ColumnInfo>& columns, std::string_view name);

// "a, b", each with `prefix` in front; '' in place of those in `without`.
std::string list_of(const std::vector<ColumnInfo>& columns, const std::string& prefix = {},
                    ColumnNames without = {});
// "UPDATE table SET a = :a, b = :b".
std::string update_of(const char* table, const std::vector<ColumnInfo>& columns);
// "a = excluded.a, b = excluded.b".
std::string excluded_of(const std::vector<ColumnInfo>& columns);

// "a = :prefix_a AND b = :prefix_b".
std::string equals_of(const std::vector<ColumnInfo>& columns, const std::string& prefix);

}  // namespace keyagent::store
