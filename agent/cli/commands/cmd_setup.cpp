// SPDX-License-Identifier: Apache-2.0
// keyagent setup

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <iostream>
#include <set>

#include "agent/base/error.h"
#include "agent/base/shell_argument.h"
#include "agent/cli/cli.h"
#include "agent/cli/local/installed.h"
#include "agent/cli/local/private_agent.h"
#include "agent/cli/local/self_test.h"
#include "agent/cli/local/setup.h"

namespace keyagent::cli {
namespace {

struct SetupOptions {
  std::string label, profile, state;
  std::vector<std::string> owners;
  bool yes = false, only_self_test = false;
};

// That of the agent which exists: in the state folder, or the only one in /etc/keyagent. Else the
// host's name.
std::string usual_label(const std::filesystem::path& state) {
  const auto existing = state.empty() ? std::string() : label_of(state / "keyagentd.yml");
  if (!existing.empty()) return existing;
  std::set<std::string> names;
  std::error_code none;
  for (std::filesystem::directory_iterator each("/etc/keyagent", none), end; !none && each != end;
       each.increment(none)) {
    const std::string file = each->path().filename().string();
    if (state.empty() && file.ends_with(".yml") && !file.ends_with("-policy.yml") &&
        file != "worker.yml")
      names.insert(file.substr(0, file.size() - 4));
  }
  if (names.size() == 1) return *names.begin();
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::string label;
  for (char c : std::string(host.data())) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (!fits || label.size() == 32) break;
    label += c;
  }
  return label.empty() || label == "localhost" ? "keyagent" : label;
}

std::string usual_owner() {
  const char* behind_sudo = std::getenv("SUDO_USER");
  if (::geteuid() == 0 && behind_sudo != nullptr && ::getpwnam(behind_sudo) != nullptr)
    return behind_sudo;
  const passwd* self = ::getpwuid(::geteuid());
  return self == nullptr ? std::to_string(::geteuid()) : self->pw_name;
}

SetupPlan plan_of(const SetupOptions& options) {
  SetupPlan plan;
  if (!options.state.empty())
    plan.state = std::filesystem::absolute(options.state).lexically_normal();
  plan.label = options.label.empty() ? usual_label(plan.state) : options.label;
  plan.profile = options.profile.empty() ? "softhsm2" : options.profile;
  plan.owners = options.owners;
  if (plan.owners.empty()) plan.owners = {usual_owner()};
  return plan;
}

std::string command_line(const SetupPlan& plan) {
  std::string line = "keyagent setup --yes";
  if (!plan.is_unit()) line += " --state " + shell_word(plan.state.string());
  line += " --label " + shell_word(plan.label) + " --profile " + shell_word(plan.profile);
  for (const auto& owner : plan.owners) line += " --owner " + shell_word(owner);
  return line;
}

// Asks at the terminal; an empty answer is `usual`.
std::string ask(const std::string& question, const std::string& usual) {
  std::cerr << question << " [" << usual << "]: ";
  std::string answer;
  if (!std::getline(std::cin, answer))
    throw Error(Code::kConfirm, "no answer; nothing was changed");
  return answer.empty() ? usual : answer;
}

void ask_for(SetupPlan& plan, const SetupOptions& options) {
  if (options.label.empty()) plan.label = ask("Name of the agent and its token", plan.label);
  if (options.profile.empty())
    plan.profile = ask("Token: softhsm2 (in files), tpm2, or the file of a profile", plan.profile);
  if (options.owners.empty())
    plan.owners = {ask("User that administers the agent", plan.owners.front())};
  std::cerr << "This creates the token '" << plan.label << "' (" << plan.profile << ") in "
            << plan.state_folder().string() << ", and " << plan.config().string() << " and "
            << plan.policy().string() << ".\n"
            << (plan.is_unit() ? "It starts keyagentd@" + plan.label + ".service.\n" : "")
            << "What exists is not changed. The same without questions: " << command_line(plan)
            << "\n";
  const std::string answer = ask("Continue? yes or no", "no");
  if (answer != "yes" && answer != "y")
    throw Error(Code::kConfirm, "not confirmed; nothing was changed");
}

// Commands are indented: all others are text.
std::string next_steps(const SetupPlan& plan, const std::vector<std::string>& added) {
  std::string text;
  if (plan.is_unit()) {
    text = "Next, as " + plan.owners.front();
    if (!added.empty()) text += " in a new session (" + added.front() + " joined keyagent-users)";
  } else {
    text = "Start it, in a separate terminal:\n  " + shell_word(daemon_program().string()) +
           " --config " + shell_word(plan.config().string()) +
           (::geteuid() == 0 ? " --allow-root" : "") + "\nThen";
  }
  return text + ":\n  export KEYAGENT_SOCKET=" + shell_word(plan.socket().string()) +
         "\n  keyagent key create releases --purpose sign\n  keyagent doctor\n"
         "Who may use which key: " +
         plan.policy().string() + " (policy.yml(5)); after a change: keyagent reload\n";
}

void run_setup(Session& session, const SetupOptions& options) {
  SetupPlan plan = plan_of(options);
  require_right_user(plan);
  if (!options.yes && ::isatty(STDIN_FILENO) == 0)
    throw Error(
        Code::kConfirm,
        "setup asks questions, and standard input is not a terminal; run: " + command_line(plan));
  if (!options.yes) ask_for(plan, options);
  require_possible(plan);
  process::Supervisor supervisor;
  try {
    const std::string created = provision(supervisor, plan);
    std::vector<std::string> added;
    if (plan.is_unit()) {
      added = add_to_group(supervisor, plan);
      start_units(supervisor, plan);
    }
    const bool tested = !plan.is_unit() || systemd_runs();
    if (tested) test_agent(supervisor, plan);
    session.tell(
        {{"label", plan.label},
         {"configuration", plan.config().string()},
         {"policy", plan.policy().string()},
         {"state", plan.state_folder().string()},
         {"socket", plan.socket().string()},
         {"created", !created.empty()},
         {"tested", tested}},
        "agent " + plan.label + ": " +
            (created.empty() ? "everything exists; nothing changed" : "created " + created) +
            "\nself-test: " +
            (tested ? "passed: a signature verified, a sealed secret opened"
                    : "not run: systemd does not run here, and starts the agent with the host") +
            "\n" + next_steps(plan, added));
  } catch (const Interrupted& interrupted) {
    session.exit_status = 128 + interrupted.signal;
  }
}

}  // namespace

void add_setup_command(CLI::App& app, Session& session) {
  auto options = std::make_shared<SetupOptions>();
  auto* setup = add_command(
      app, "setup",
      "set up an agent of this host: token, PIN, configuration, policy and systemd unit, with a "
      "self-test",
      "  sudo keyagent setup                                       asks what it needs\n"
      "  sudo keyagent setup --yes --label mail --owner alice      in scripts\n"
      "  keyagent setup --yes --state ~/.keyagent                  a private agent, without a "
      "unit\n"
      "\n"
      "What exists is not changed: setup can be repeated. Manual: keyagent-setup(1).",
      [&session, options] {
        options->only_self_test ? self_test(session) : run_setup(session, *options);
      });
  setup->add_flag("--yes", options->yes, "ask no questions");
  setup->add_option("--label", options->label,
                    "name of the token and the agent: 1 to 32 of a-z 0-9 . - (default: the only "
                    "agent of the host, else the host's name)");
  setup->add_option("--profile", options->profile,
                    "softhsm2 (default), tpm2, or the file of a profile");
  setup
      ->add_option("--owner", options->owners,
                   "user who administers the agent (default: the user behind sudo); repeatable")
      ->allow_extra_args(false);
  setup->add_option("--state", options->state,
                    "folder of a private agent: no root, no unit, nothing outside of it");
  setup->add_flag("--only-self-test", options->only_self_test)->group("");
}

}  // namespace keyagent::cli
