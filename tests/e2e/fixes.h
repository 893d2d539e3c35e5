// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fixes of `keyagent doctor`, run as they are printed: its commands in a shell that finds the
// programs of this build.

#include <gmock/gmock.h>

#include <map>
#include <optional>
#include <utility>

#include "tests/e2e/host.h"

namespace keyagent::test {

class Fixes {
 public:
  explicit Fixes(Host& host) : host_(host) {
    host_.shell("mkdir bin; ln -s " KEYAGENT " bin/keyagent; ln -s " KEYAGENTD " bin/keyagentd");
  }

  // The finding of this id; none: doctor does not report it.
  std::optional<Json> find(const std::string& id, const std::string& words = "doctor") const {
    const auto result = host_.keyagent("--json " + words);
    const Json all = Json::parse(result.output, nullptr, false);
    EXPECT_FALSE(all.is_discarded()) << result.output;
    if (all.is_discarded()) return std::nullopt;
    for (const auto& each : all.at("findings"))
      if (each.at("id") == id) return each;
    return std::nullopt;
  }
  bool reports(const std::string& id) const {
    return wait_until([&] { return find(id).has_value(); }) || told(id + " is not reported");
  }
  bool is_fixed(const std::string& id) const {
    return wait_until([&] { return !find(id).has_value(); }) || told(id + " is still reported");
  }

  // A command of the finding, as doctor prints it to a person too.
  std::string command(const std::string& id, std::size_t which = 0) const {
    const auto finding = find(id);
    if (!finding || finding->at("commands").size() <= which) {
      ADD_FAILURE() << "no command " << which << " for " << id << ": " << doctor();
      return "false";
    }
    std::string command = finding->at("commands").at(which);
    EXPECT_THAT(doctor(), testing::HasSubstr(command));
    return command;
  }
  // Runs it; words in capitals are replaced, as a person would. `typed`: at the terminal, or empty:
  // there is none.
  CommandResult run(const std::string& command,
                    const std::map<std::string, std::string>& words = {},
                    const std::string& typed = {}) const {
    std::string line = command;
    for (const auto& [word, value] : words) {
      for (auto at = line.find(word); at != line.npos; at = line.find(word, at + value.size()))
        line.replace(at, word.size(), value);
    }
    host_.write("command", line + "\n");
    const std::string shell =
        typed.empty() ? "sh command </dev/null"
                      : "printf '%s\\n' '" + typed + "' | script -qec 'sh command' /dev/null";
    const auto result = try_command("cd '" + host_.work.path().string() + "' && PATH=\"$PWD/bin:" +
                                    "$PATH\" KEYAGENT_SOCKET=" + host_.socket().string() +
                                    " sh -c '" + quoted(shell) + "' 2>&1");
    EXPECT_EQ(result.status, 0) << line << "\n" << result.output;
    return result;
  }
  // The whole: it is reported, its command runs, it is gone.
  void expect_fixed(const std::string& id, const std::map<std::string, std::string>& words = {},
                    const std::string& typed = {}) const {
    ASSERT_TRUE(reports(id));
    run(command(id), words, typed);
    EXPECT_TRUE(is_fixed(id));
  }

  std::string doctor() const { return host_.keyagent("doctor").output; }

 private:
  static std::string quoted(const std::string& text) {
    std::string out;
    for (const char each : text) out += each == '\'' ? "'\\''" : std::string(1, each);
    return out;
  }
  bool told(const std::string& what) const {
    ADD_FAILURE() << what << ":\n" << doctor() << host_.story();
    return false;
  }

  Host& host_;
};

}  // namespace keyagent::test
