// SPDX-License-Identifier: Apache-2.0
#pragma once
// A host as its users see it: the real keyagentd on a token, the real keyagent beside it, and the
// programs of others that seal to its keys.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/daemon/agent_process.h"
#include "tests/support/command.h"
#include "tests/support/temp_folder.h"

namespace keyagent::test {

using Json = nlohmann::json;

inline bool program_there(const std::string& name) {
  return try_command("command -v " + name + " 2>/dev/null").status == 0;
}

class Host : public AgentProcess {
 public:
  // Standard output and error together. `before` is put in front ("printf x |"), `as` before the
  // program ("setpriv …").
  CommandResult keyagent(const std::string& words, const std::string& before = {},
                         const std::string& as = {}) const {
    return try_command("cd '" + work.path().string() + "' && " + before + " KEYAGENT_SOCKET=" +
                       socket().string() + " " + as + " " KEYAGENT " " + words + " 2>&1");
  }
  Json json(const std::string& words, int status = 0) const {
    const auto result = keyagent("--json " + words);
    EXPECT_EQ(result.status, status) << words << "\n" << result.output;
    return Json::parse(result.output, nullptr, false);
  }

  std::filesystem::path file(const std::string& name) const { return work.path() / name; }
  std::string read(const std::string& name) const { return read_text(file(name)); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }
  using AgentProcess::write;
  // A shell line in the work folder; throws with what it said.
  void shell(const std::string& line) const {
    run_command("cd '" + work.path().string() + "' && { " + line + "; }");
  }

  // The user that the agent runs as, as `as` of keyagent() or in front of another program.
  static std::string as_agent() {
    if (::geteuid() != 0) return "";
    const std::string user = std::to_string(kUser);
    return "setpriv --reuid " + user + " --regid " + user + " --clear-groups ";
  }

  // In lines of the audit log or of the agent's own.
  static int count(const std::string& text, const std::string& what) {
    int found = 0;
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + what.size()))
      ++found;
    return found;
  }
  std::string audit() const { return read_text(state() / "audit/audit.log"); }
  std::string calls() const { return read_text(folder() / "calls"); }

  TempFolder work;
};

}  // namespace keyagent::test
