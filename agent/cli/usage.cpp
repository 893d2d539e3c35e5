// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/usage.h"

#include <map>
#include <set>

#include "agent/base/suggestion.h"

namespace keyagent::cli {
namespace {

// The command's options and those of the commands above it, which it takes too.
std::map<std::string, const CLI::Option*> options_of(const CLI::App* command) {
  std::map<std::string, const CLI::Option*> options;
  for (; command != nullptr; command = command->get_parent()) {
    for (const CLI::Option* option : command->get_options()) {
      for (const auto& name : option->get_lnames()) options.emplace("--" + name, option);
      for (const auto& name : option->get_snames()) options.emplace("-" + name, option);
    }
  }
  return options;
}

const CLI::App* command_below(const CLI::App* command, const std::string& name) {
  for (const CLI::App* each : command->get_subcommands([](const CLI::App*) { return true; })) {
    if (each->get_name() == name) return each;
  }
  return nullptr;
}

}  // namespace

std::string unknown_option(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* at = &app;
  auto known = options_of(at);
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    const auto& word = words[i];
    if (word.size() < 2 || word[0] != '-') {
      if (const CLI::App* below = command_below(at, word)) known = options_of(at = below);
      continue;
    }
    const bool is_long = word[1] == '-';
    const auto name = is_long ? word.substr(0, word.find('=')) : word.substr(0, 2);
    const auto found = known.find(name);
    if (found == known.end()) {
      std::set<std::string> names;
      for (const auto& [each, option] : known) {
        if (each.size() > 2) names.insert(each);
      }
      return "'" + name + "'" + (is_long ? did_you_mean(name, names) : std::string());
    }
    const bool has_value = is_long ? word.size() > name.size() : word.size() > 2;
    if (found->second->get_items_expected_min() > 0 && !has_value) ++i;
  }
  return {};
}

}  // namespace keyagent::cli
