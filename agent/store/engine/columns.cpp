// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/columns.h"

#include <algorithm>
#include <stdexcept>

namespace keyagent::store {
namespace {

// `part` of each column, with `between` between them.
template <class Part>
std::string joined(const std::vector<ColumnInfo>& columns, const char* between, const Part& part) {
  std::string out;
  for (const auto& each : columns) out += (out.empty() ? "" : between) + part(each.name);
  return out;
}

}  // namespace

std::vector<ColumnInfo> changing_of(const std::vector<ColumnInfo>& columns) {
  auto changing = columns;
  std::erase_if(changing, [](const auto& each) { return each.role != ColumnRole::kChanging; });
  return changing;
}

std::vector<ColumnInfo> those_of(const std::vector<ColumnInfo>& columns, ColumnNames names) {
  std::vector<ColumnInfo> found;
  for (const std::string_view name : names) {
    const auto at = std::find_if(columns.begin(), columns.end(),
                                 [&](const auto& each) { return each.name == name; });
    if (at == columns.end()) throw std::logic_error("the store has no column " + std::string(name));
    found.push_back(*at);
  }
  return found;
}

bool has(const std::vector<ColumnInfo>& columns, std::string_view name) {
  return std::any_of(columns.begin(), columns.end(),
                     [&](const auto& each) { return each.name == name; });
}

std::string list_of(const std::vector<ColumnInfo>& columns, const std::string& prefix,
                    ColumnNames without) {
  const auto left_out = those_of(columns, without);
  return joined(columns, ", ", [&](const std::string& name) {
    return has(left_out, name) ? std::string("''") : prefix + name;
  });
}

std::string update_of(const char* table, const std::vector<ColumnInfo>& columns) {
  return std::string("UPDATE ") + table + " SET " +
         joined(columns, ", ", [](const std::string& name) { return name + " = :" + name; });
}

std::string equals_of(const std::vector<ColumnInfo>& columns, const std::string& prefix) {
  return joined(columns, " AND ",
                [&](const std::string& name) { return name + " = :" + prefix + name; });
}

std::string excluded_of(const std::vector<ColumnInfo>& columns) {
  return joined(columns, ", ",
                [](const std::string& name) { return name + " = excluded." + name; });
}

}  // namespace keyagent::store
