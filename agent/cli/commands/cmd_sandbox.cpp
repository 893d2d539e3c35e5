// SPDX-License-Identifier: Apache-2.0
// keyagent sandbox

#include <cstdlib>
#include <iostream>

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/local/private_agent.h"
#include "agent/cli/local/sandbox.h"

namespace keyagent::cli {
namespace {

constexpr int kCannotRun = 126, kNotFound = 127;  // as shells and env(1) exit

struct SandboxOptions {
  std::vector<std::string> keys;
  std::string policy, profile = "softhsm2";
};

// Words that the parser could not place: an option that does not exist, or the command itself.
void require_no_rest(const std::vector<std::string>& rest) {
  if (rest.empty()) return;
  if (rest.front().starts_with("-"))
    throw Error(Code::kUsage, "unknown option " + rest.front() + " (see keyagent sandbox --help)");
  throw Error(Code::kUsage,
              "put -- before the command: keyagent sandbox -- " + rest.front() + " …");
}

int refuse(const std::string& text, int status) {
  std::cerr << "keyagent: sandbox: " << text << "\n";
  return status;
}

int run_in(Sandbox& sandbox, process::Supervisor& supervisor, const SandboxOptions& options,
           const std::filesystem::path& program, const std::vector<std::string>& command) {
  sandbox.start_agent();
  for (const auto& each : options.keys) sandbox.create(parse_sandbox_key(each));
  if (!options.policy.empty()) sandbox.use_policy(options.policy);
  process::Child child;
  child.program = program;
  child.arguments = command;
  child.environment = sandbox.environment();
  pid_t pid = 0;
  try {
    pid = supervisor.start(child);
  } catch (const Error& error) {
    return refuse(error.what(), kCannotRun);
  }
  const int status = supervisor.wait_for(pid);
  const std::string ended = sandbox.why_agent_ended();
  if (!ended.empty()) refuse("its agent ended before the command did:\n" + ended, status);
  return status;
}

void run_sandbox(Session& session, const SandboxOptions& options) {
  const auto& command = session.command;
  if (command.empty())
    throw Error(Code::kUsage, "no command: keyagent sandbox [OPTION…] -- COMMAND [ARGUMENT…]");
  for (const auto& each : options.keys) parse_sandbox_key(each);
  if (!options.policy.empty()) read_file(options.policy);
  const char* search_path = std::getenv("PATH");
  bool found = false;
  const auto program = process::find_program(
      command.front(), search_path == nullptr ? "/usr/bin:/bin" : search_path, &found);
  if (program.empty()) {
    session.exit_status = found ? refuse(command.front() + ": cannot be executed", kCannotRun)
                                : refuse(command.front() + ": not found", kNotFound);
    return;
  }
  process::Supervisor supervisor;
  try {
    Sandbox sandbox(supervisor, options.profile);
    session.exit_status = run_in(sandbox, supervisor, options, program, command);
  } catch (const Interrupted& interrupted) {
    session.exit_status = 128 + interrupted.signal;
  }
}

}  // namespace

void add_sandbox_command(CLI::App& app, Session& session) {
  auto options = std::make_shared<SandboxOptions>();
  auto* sandbox = add_command(
      app, "sandbox",
      "run a command with a temporary SoftHSM2 token and agent: keyagent sandbox -- COMMAND",
      "  keyagent sandbox --key releases=sign -- keyagent sign README.md --key releases -o sig\n"
      "  keyagent sandbox --key sign --key transport -- make test\n"
      "  keyagent sandbox --key deploy=sign:ed25519 -- ssh-add -L\n"
      "  keyagent sandbox --key web=sign --policy policy.yml -- ./integration-test\n"
      "\n"
      "COMMAND gets KEYAGENT_SOCKET, SSH_AUTH_SOCK and, where the provider is installed, "
      "OPENSSL_CONF. Token, agent and\n"
      "keys are removed when it ends, also by a signal. The exit status is that of COMMAND; 127: "
      "it "
      "was not found, 126: it\n"
      "cannot be executed. Manual: keyagent-sandbox(1).",
      [&app, &session, options] {
        require_no_rest(app.get_subcommand("sandbox")->remaining());
        run_sandbox(session, *options);
      });
  // What it does not know is reported here, not by the parser: the place of "--" is the usual
  // fault.
  sandbox->allow_extras()->fallthrough(false);
  sandbox
      ->add_option("--key", options->keys,
                   "create a key first: [NAME=]PURPOSE[:ALGORITHM]; repeatable")
      ->allow_extra_args(false);
  sandbox->add_option("--policy", options->policy,
                      "policy of the agent (default: this user may do everything but export keys)");
  sandbox->add_option("--profile", options->profile,
                      "softhsm2, or a file softhsm2.yml that names its module elsewhere");
}

}  // namespace keyagent::cli
