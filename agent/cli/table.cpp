// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/table.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <set>
#include <string_view>

#include "agent/base/encoding.h"

namespace keyagent::cli {
namespace {

// In characters, not in bytes.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

// The color of a state or an outcome, by its first word; empty: none.
std::string_view color_of(const std::string& cell) {
  static const std::set<std::string, std::less<>> kGood{
      "active", "up", "done", "complete", "confirmed", "approved", "imported", "enabled", "works"},
      kBad{"alarm",  "compromised", "disabled", "down",    "expired",
           "failed", "refused",     "rejected", "revoked", "unknown"};
  const auto word = std::string_view(cell).substr(0, cell.find_first_of(" (:"));
  if (word.empty() || word == "-") return {};
  if (cell.find("(!)") != std::string::npos || kBad.contains(word)) return "\033[31m";
  return kGood.contains(word) ? "\033[32m" : "\033[33m";
}

std::string painted(const std::string& text, std::string_view color) {
  return color.empty() ? text : std::string(color) + text + "\033[0m";
}

}  // namespace

Table::Table(std::vector<std::string> heads) : heads_(std::move(heads)) {}

void Table::add(std::vector<std::string> cells) {
  assert(cells.size() == heads_.size());
  for (auto& cell : cells) cell = cell == "-" ? std::string() : escape_controls(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::text(bool colored) const {
  if (rows_.empty()) return {};
  std::vector<std::size_t> shown, widths;
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    std::size_t widest = 0;
    for (const auto& row : rows_) widest = std::max(widest, width_of(row[i]));
    if (widest == 0) continue;
    shown.push_back(i);
    widths.push_back(std::max(widest, width_of(heads_[i])));
  }
  std::string out;
  const auto add_line = [&](const std::vector<std::string>& cells, const auto& color) {
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const auto& cell = cells[shown[i]].empty() ? std::string("-") : cells[shown[i]];
      out += colored ? painted(cell, color(shown[i], cell)) : cell;
      if (i + 1 < shown.size()) out.append(widths[i] + 2 - width_of(cell), ' ');
    }
    out += "\n";
  };
  add_line(heads_, [](std::size_t, const std::string&) { return std::string_view("\033[1m"); });
  for (const auto& row : rows_) {
    add_line(row, [&](std::size_t column, const std::string& cell) {
      const auto& head = heads_[column];
      return head == "STATE" || head == "OUTCOME" ? color_of(cell) : std::string_view();
    });
  }
  return out;
}

std::string Table::text_or(const std::string& nothing) const {
  return rows_.empty() ? nothing : text(shows_colors(STDOUT_FILENO));
}

bool shows_colors(int descriptor) {
  const char* refused = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  if (refused != nullptr && *refused != '\0') return false;
  if (terminal == nullptr || std::string_view(terminal) == "dumb") return false;
  return ::isatty(descriptor) == 1;
}

}  // namespace keyagent::cli
