// SPDX-License-Identifier: Apache-2.0
#pragma once
// Programs of the operator's that the agent asks for a word: run apart from everything it holds.

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace keyagent::daemon {

struct Program {
  std::string what;  // for messages: "the rekey hook"
  std::filesystem::path path;
  std::string input = {};                     // on its standard input; less than a pipe holds
  std::vector<std::string> environment = {};  // "NAME=value", beside PATH and LC_ALL
  std::chrono::milliseconds patience{std::chrono::seconds(30)};
  int stop = -1;  // a descriptor; readable: it is not waited for any longer
};

struct ProgramEnd {
  bool killed = false;      // by us: it was not done in time, or was to stop
  std::optional<int> code;  // its exit status; nullopt: it ended by a signal
  std::string said;         // the first line that it printed, escaped
};

// Runs it to its end, without arguments, with no descriptor of this process and no variable of its
// environment. One that must stop is killed with its children. Thread-safe. Throws Error{kPeer}
// when it cannot be run.
ProgramEnd run_program(const Program& program);

}  // namespace keyagent::daemon
