// SPDX-License-Identifier: Apache-2.0
#pragma once
// Problems of a command line that does not parse.

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace keyagent::cli {

// The first option that the command of these words does not have, with similar ones: "'--cont'; did
// you mean '--count'?". Empty: there is none. `words`: the command line without the program's name.
std::string unknown_option(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace keyagent::cli
