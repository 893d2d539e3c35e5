// SPDX-License-Identifier: Apache-2.0
// keyagent: one command line for everything.

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <set>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/error_line.h"
#include "agent/base/suggestion.h"
#include "agent/cli/cli.h"
#include "agent/cli/table.h"
#include "agent/cli/usage.h"

namespace {

using keyagent::cli::Json;
using keyagent::cli::Session;
using keyagent::cli::unknown_option;

// One line for a person, one object for a script.
int tell_error(const Session& session, std::string_view code, const std::string& text,
               const std::string& kid, int status) {
  if (session.globals.json) {
    const Json error{{"code", code}, {"text", text}, {"kid", kid}, {"exit", status}};
    std::cout << Json{{"error", error}}.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    const bool colored = keyagent::cli::shows_colors(STDERR_FILENO);
    std::cerr << (colored ? "\033[31mkeyagent:\033[0m " : "keyagent: ")
              << keyagent::error_line(code, text) << "\n";
  }
  return status;
}

void add_commands(CLI::App& app, Session& session) {
  using namespace keyagent::cli;
  app.add_option(
      "--socket", session.globals.socket,
      "socket of the agent (default: $KEYAGENT_SOCKET, then the only one in /run/keyagent)");
  app.add_flag("--json", session.globals.json, "print results and errors as one JSON object");
  app.add_flag("-q,--quiet", session.globals.quiet, "print only data and errors");
  add_key_commands(app, session);
  add_envelope_commands(app, session);
  add_sign_commands(app, session);
  add_rekey_command(app, session);
  add_census_commands(app, session);
  add_link_commands(app, session);
  add_task_commands(app, session);
  add_worker_command(app, session);
  add_status_commands(app, session);
  add_audit_commands(app, session);
  add_token_commands(app, session);
  add_config_commands(app, session);
  add_setup_command(app, session);
  add_sandbox_command(app, session);
  add_instance_commands(app, session);
  add_completion_command(app);
}

bool takes_value(const CLI::App* command, const std::string& option) {
  for (; command != nullptr; command = command->get_parent())
    if (const auto* known = command->get_option_no_throw(option))
      return known->get_items_expected_min() > 0;
  return false;
}

// Finds the first unknown word in the place of a command, and suggests similar commands.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  const auto commands_of = [](const CLI::App& command) {
    std::set<std::string> names;
    for (const auto* each : command.get_subcommands([](const CLI::App*) { return true; }))
      names.insert(each->get_name());
    return names;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (takes_value(at, word)) {
      ++i;
    } else if (word.empty() || word[0] != '-') {
      const auto known = commands_of(*at);
      if (known.empty()) return {};
      if (!known.contains(word)) return "'" + word + "'" + keyagent::did_you_mean(word, known);
      at = at->get_subcommand(word);
    }
  }
  return {};
}

// What follows "--" of sandbox is a program with its arguments: the parser does not get them, as it
// would split a word such as "[a,b]".
std::vector<std::string> take_program(std::vector<std::string>& words) {
  auto command = words.begin() + 1;
  while (command < words.end() && command->starts_with("-") && *command != "--")
    command += *command == "--socket" && command + 1 < words.end() ? 2 : 1;
  if (command >= words.end() || *command != "sandbox") return {};
  const auto mark = std::find(command, words.end(), "--");
  if (mark == words.end()) return {};
  std::vector<std::string> program(mark + 1, words.end());
  words.erase(mark, words.end());
  return program;
}

// One kid in 64 begins with '-': a word in the form of a kid is a kid, not an option.
std::vector<std::string> plain_words(std::vector<std::string> words) {
  std::vector<std::string> kids;
  static const std::set<std::string> takes_kid{"--key", "--fingerprint", "--instance",
                                               "--certificate-key"};
  const auto is_kid = [](const std::string& word) {
    return word.size() == 43 && word[0] == '-' && keyagent::from_base64url(word);
  };
  for (auto word = words.begin() + 1; word != words.end() && *word != "--";) {
    const bool of_option = takes_kid.contains(*(word - 1));
    if (!is_kid(*word)) {
      ++word;
    } else {
      if (of_option) *(word - 1) += "=" + *word;
      if (!of_option) kids.push_back(*word);
      word = words.erase(word);
    }
  }
  if (!kids.empty() && std::find(words.begin(), words.end(), "--") == words.end())
    words.emplace_back("--");
  words.insert(words.end(), kids.begin(), kids.end());
  return words;
}

constexpr const char* kFooter =
    "Examples:\n"
    "  keyagent key create backup-credentials --purpose transport\n"
    "  printf %s \"$SECRET\" | keyagent seal - --key backup-credentials -o backup.jwe\n"
    "  keyagent open backup.jwe\n"
    "\n"
    "Exit status: 0 done, 2 usage or configuration, 3 refused by key state or policy, 4 token "
    "fault (try again),\n"
    "5 agent or network cannot be reached (try again), 6 does not verify or open (do not try "
    "again), 7 partly done.";

}  // namespace

int main(int argc, char** argv) {
  // A plaintext passes through this process: no core dump, no debugger of the same user.
  ::prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  Session session;
  CLI::App app("keyagent: use and manage keys in an HSM or TPM through the agent of this host");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("keyagent ") + KEYAGENT_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  add_commands(app, session);
  std::vector<std::string> given(argv, argv + argc);
  session.command = take_program(given);
  const auto plain = plain_words(std::move(given));
  try {
    std::vector<const char*> words;
    for (const auto& word : plain) words.push_back(word.c_str());
    app.parse(static_cast<int>(words.size()), words.data());
    // A full disk or a closed pipe is an error of the command whose result was lost.
    if (!std::cout.flush())
      throw keyagent::Error(keyagent::Code::kInternal, "standard output is not writable");
    return session.exit_status;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app.exit(version);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const std::string unknown = unknown_command(app, argc, argv);
    if (!unknown.empty()) {
      return tell_error(session, "USAGE",
                        "unknown command " + unknown + " (keyagent --help lists them)", "", 2);
    }
    const std::string option = unknown_option(app, {plain.begin() + 1, plain.end()});
    if (!option.empty()) {
      return tell_error(session, "USAGE",
                        "unknown option " + option + " (see keyagent --help, or COMMAND --help)",
                        "", 2);
    }
    return tell_error(session, "USAGE",
                      std::string(error.what()) + " (see keyagent --help, or COMMAND --help)", "",
                      2);
  } catch (const keyagent::Error& error) {
    return tell_error(session, code_name(error.code()), error.what(), error.kid(),
                      keyagent::exit_code(error.code()));
  } catch (const std::exception& error) {
    return tell_error(session, "INTERNAL", error.what(), "", 4);
  }
}
