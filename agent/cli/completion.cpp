// SPDX-License-Identifier: Apache-2.0
// keyagent completion bash | zsh | fish: made from the command tree itself, so that it is never
// behind.

#include <iostream>

#include "agent/base/error.h"
#include "agent/cli/cli.h"

namespace keyagent::cli {
namespace {

using Visit = std::function<void(const std::string& path, const CLI::App& command)>;

void walk(const CLI::App& command, const std::string& path, const Visit& visit) {
  visit(path, command);
  for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; })) {
    walk(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), visit);
  }
}

std::string words_of(const CLI::App& command) {
  std::string words;
  for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; }))
    words += child->get_name() + " ";
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group().empty()) continue;  // not for people
    for (const auto& name : option->get_lnames()) words += "--" + name + " ";
  }
  if (!words.empty()) words.pop_back();
  return words;
}

// Also for zsh's bashcompinit, which lacks mapfile. Words that are not commands (an option's value,
// a key's name) do not change the command that is completed.
std::string bash_script(const CLI::App& root) {
  std::string paths = "|", cases;
  walk(root, "", [&](const std::string& path, const CLI::App& command) {
    paths += path + "|";
    cases += "    '" + path + "') words='" + words_of(command) + "' ;;\n";
  });
  return "# bash completion for keyagent: eval \"$(keyagent completion bash)\"\n_keyagent() {\n"
         "  local word path= words= IFS=$'\\n'\n  local paths='" +
         paths +
         "'\n  COMPREPLY=()\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    [[ $paths != *\"|$path${path:+ }$word|\"* ]] || path=\"$path${path:+ }$word\"\n"
         "  done\n  case $path in\n" +
         cases +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"${words// /$'\\n'}\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "  [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "
         "\"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
         "complete -F _keyagent keyagent\n";
}

std::string zsh_script(const CLI::App& root) {
  return "#compdef keyagent\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script(root);
}

std::string fish_script(const CLI::App& root) {
  std::string out = "# fish completion for keyagent\n";
  walk(root, "", [&](const std::string& path, const CLI::App& command) {
    const auto blank = path.rfind(' ');
    const std::string last = path.substr(blank == std::string::npos ? 0 : blank + 1);
    const std::string when =
        path.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + last;
    for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; })) {
      out += "complete -c keyagent -f -n '" + when + "' -a " + child->get_name() + "\n";
    }
    for (const CLI::Option* option : command.get_options()) {
      if (option->get_group().empty()) continue;
      for (const auto& name : option->get_lnames())
        out += "complete -c keyagent -n '" + when + "' -l " + name + "\n";
    }
  });
  return out;
}

}  // namespace

void add_completion_command(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  auto* command = add_command(app, "completion", "print a completion script for your shell",
                              "  eval \"$(keyagent completion bash)\"\n  keyagent completion fish "
                              "> ~/.config/fish/completions/keyagent.fish",
                              [&app, shell] {
                                std::cout << (*shell == "bash"  ? bash_script(app)
                                              : *shell == "zsh" ? zsh_script(app)
                                                                : fish_script(app));
                              });
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

}  // namespace keyagent::cli
