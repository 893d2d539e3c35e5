// SPDX-License-Identifier: Apache-2.0
// The help texts of all commands, as the program prints them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;

// The command's own name and those of everything below it, as its help lists them.
std::vector<std::string> commands_below(const std::string& command) {
  std::vector<std::string> found{command};
  std::istringstream help(try_command(std::string(KEYAGENT " ") + command + " --help").output);
  bool listed = false;
  for (std::string line; std::getline(help, line);) {
    listed = !line.empty() && (listed || line == "Subcommands:");
    if (!listed || !line.starts_with("  ") || line.starts_with("   ")) continue;
    const auto name = line.substr(2, line.find(' ', 2) - 2);
    for (const auto& each : commands_below(command + " " + name)) found.push_back(each);
  }
  return found;
}

TEST(Help, EveryCommandsHelpHasAnExample) {
  const auto commands = commands_below("");
  for (const char* known : {" key certificate install", " instance", " instance credential put",
                            " credential", " token change-pin", " completion"})
    EXPECT_THAT(commands, testing::Contains(known));
  for (const auto& command : commands) {
    const auto result = try_command(std::string(KEYAGENT) + command + " --help");
    EXPECT_EQ(result.status, 0) << command;
    EXPECT_THAT(result.output, HasSubstr("Examples:")) << command;
  }
}

// What the help of a command says of each of its arguments and options, by its first name. Texts
// begin in one column, on the same line or, after a long name, on the next.
std::map<std::string, std::string> texts_of_options(const std::string& command) {
  constexpr std::size_t kColumn = 30;
  std::map<std::string, std::string> texts;
  std::istringstream help(run_command(std::string(KEYAGENT) + command + " --help"));
  bool listed = false;
  std::string option;
  for (std::string line; std::getline(help, line);) {
    if (!line.empty() && line[0] != ' ') listed = line == "Options:" || line == "Positionals:";
    if (!listed || line.size() < 3 || line[0] != ' ') continue;
    const bool begins = line[2] != ' ';
    if (begins) texts[option = line.substr(2, line.find(' ', 2) - 2)];
    const bool beside = line.size() > kColumn && line[kColumn - 1] == ' ' && line[kColumn] != ' ';
    if (beside) texts[option] += line.substr(kColumn);
  }
  return texts;
}

TEST(Help, EachOptionHasAText) {
  for (const auto& command : commands_below("")) {
    for (const auto& [option, text] : texts_of_options(command))
      EXPECT_FALSE(text.empty()) << "keyagent" << command << ": " << option << " has no text";
  }
}

// Two options with one text: the text of one of them was copied.
TEST(Help, EachOptionOfACommandHasATextOfItsOwn) {
  std::size_t options = 0;
  for (const auto& command : commands_below("")) {
    std::map<std::string, std::string> known;
    for (const auto& [option, text] : texts_of_options(command)) {
      ++options;
      const auto [first, fresh] = known.emplace(text, option);
      EXPECT_TRUE(fresh) << "keyagent" << command << " " << first->second << " and " << option
                         << ": " << text;
    }
  }
  EXPECT_GT(options, 250U) << "the help is no longer read";
  const auto exchange = texts_of_options(" instance exchange request");
  EXPECT_THAT(exchange.at("--rekey"), HasSubstr("re-encrypt"));
  EXPECT_THAT(exchange.at("--period"), HasSubstr("hours"));
}

}  // namespace
}  // namespace keyagent::test
