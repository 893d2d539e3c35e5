// SPDX-License-Identifier: Apache-2.0
// Lists for people: columns that never run together, and colors on terminals only.

#include "agent/cli/table.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "agent/base/error_line.h"

namespace keyagent::test {
namespace {

using cli::Table;
using testing::HasSubstr;
using testing::Not;

TEST(Table, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({"NAME", "STATE", "KID"});
  table.add({"web", "deactivated (!)", "KID-1"});
  table.add({"a-very-long-name-of-a-key", "active", "KID-2"});
  table.add({"käse", "active", "KID-3"});
  EXPECT_EQ(table.text(false),
            "NAME                       STATE            KID\n"
            "web                        deactivated (!)  KID-1\n"
            "a-very-long-name-of-a-key  active           KID-2\n"
            "käse                       active           KID-3\n");
}

TEST(Table, AColumnWithoutTextIsLeftOutAndAnEmptyCellIsADash) {
  Table table({"NAME", "NOTE", "AT", "LAST"});
  table.add({"a", "", "", "-"});
  table.add({"b", "", "x", ""});
  EXPECT_EQ(table.text(false), "NAME  AT\na     -\nb     x\n");
  EXPECT_EQ(Table({"NAME"}).text(false), "");
  EXPECT_EQ(Table({"NAME"}).text_or("none\n"), "none\n");
}

TEST(Table, Fault141_ControlCharactersDoNotReachTheTerminal) {
  Table table({"NAME", "TEXT"});
  table.add({"a", "two\nlines \033[31mred"});
  const auto text = table.text(false);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, Not(HasSubstr("\033")));
}

TEST(Table, StatesHaveColorsWhereTheyAreShown) {
  Table table({"NAME", "STATE"});
  for (const char* state : {"active", "suspended", "compromised (!)", "active (!)"})
    table.add({"active", state});
  const auto text = table.text(true);
  EXPECT_THAT(text, HasSubstr("\033[1mSTATE\033[0m"));
  EXPECT_THAT(text, HasSubstr("active  \033[32mactive\033[0m\n"));
  EXPECT_THAT(text, HasSubstr("\033[33msuspended\033[0m"));
  EXPECT_THAT(text, HasSubstr("\033[31mcompromised (!)\033[0m"));
  EXPECT_THAT(text, HasSubstr("\033[31mactive (!)\033[0m"));
}

TEST(Table, APipeShowsNoColors) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::setenv("TERM", "xterm", 1);
  EXPECT_FALSE(cli::shows_colors(ends[1]));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Table, NoColorAndADumbTerminalAreObeyed) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) GTEST_SKIP() << "this system has no pseudo terminals";
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "xterm", 1);
  EXPECT_TRUE(cli::shows_colors(terminal));
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(cli::shows_colors(terminal));
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(cli::shows_colors(terminal));
  ::close(terminal);
}

TEST(ErrorLine, TheCodeIsPrintedOnce) {
  EXPECT_EQ(error_line("KEY_NOT_PRESENT", "KEY_NOT_PRESENT kid=x: no such key"),
            "KEY_NOT_PRESENT kid=x: no such key");
  EXPECT_EQ(error_line("KEY_NOT_PRESENT", "KEY_NOT_PRESENT: no such key"),
            "KEY_NOT_PRESENT: no such key");
  EXPECT_EQ(error_line("DENIED", "not allowed"), "DENIED: not allowed");
  EXPECT_EQ(error_line("PEER", "PEERS are away"), "PEER: PEERS are away");
  EXPECT_EQ(error_line("", "text"), "text");
}

}  // namespace
}  // namespace keyagent::test
