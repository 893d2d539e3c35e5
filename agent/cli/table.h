// SPDX-License-Identifier: Apache-2.0
#pragma once
// Lists for people: one row for each entry, under heads. Scripts use --json.

#include <string>
#include <vector>

namespace keyagent::cli {

// Columns as wide as their widest cell, two spaces apart. A cell without text is shown as "-"; a
// column without any text is left out. Control characters are escaped. Not thread-safe.
class Table {
 public:
  explicit Table(std::vector<std::string> heads);
  // REQUIRES: one cell for each head.
  void add(std::vector<std::string> cells);
  // Empty without rows. `colored`: bold heads; states and outcomes green, yellow or red.
  std::string text(bool colored) const;
  // In colors if standard output shows them; `nothing` without rows.
  std::string text_or(const std::string& nothing) const;

 private:
  std::vector<std::string> heads_;
  std::vector<std::vector<std::string>> rows_;
};

// Whether `descriptor` is a terminal that shows colors: not with NO_COLOR (no-color.org), and not a
// "dumb" one.
bool shows_colors(int descriptor);

}  // namespace keyagent::cli
