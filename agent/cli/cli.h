// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the commands of `keyagent` share: global options, the agent's connection, and how results
// and errors are printed.

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/client/client.h"

namespace keyagent::cli {

using Json = nlohmann::ordered_json;

struct Globals {
  std::string socket;
  bool json = false;
  bool quiet = false;
};

// One run of the program. Not thread-safe.
class Session {
 public:
  Globals globals;
  int exit_status =
      0;  // of a command that did what it was asked and has bad news (doctor, verify, audit verify)
  std::vector<std::string> command;  // the program of `sandbox` and its arguments

  client::Client& agent();
  wire::Response call(const wire::Request& request) { return agent().call(request); }

  // The command's one result: the object with --json, the text otherwise (nothing with --quiet).
  void tell(const Json& object, const std::string& text) const;
  // To standard error, unless --quiet or --json: progress and advice.
  void note(const std::string& text) const;

 private:
  std::unique_ptr<client::Client> client_;
};

// Adds a command under `parent`. `examples` is a line each, shown at the end of its --help. `run`
// may throw Error.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                      const std::string& examples, std::function<void()> run);

void add_token_commands(CLI::App& app, Session& session);
void add_key_commands(CLI::App& app, Session& session);
// suspend, resume, revoke: under `key`
void add_key_pki_commands(CLI::App& key, Session& session);
void add_key_certificate_commands(CLI::App& key, Session& session);
void add_key_state_commands(CLI::App& key, Session& session);
void add_key_exchange_commands(CLI::App& key, Session& session);  // offer, export, import
void add_rekey_command(CLI::App& app, Session& session);
void add_census_commands(CLI::App& app, Session& session);    // census, reseal
void add_sign_commands(CLI::App& app, Session& session);      // sign, verify
void add_envelope_commands(CLI::App& app, Session& session);  // seal, open
void add_status_commands(CLI::App& app, Session& session);    // status, doctor, why
void add_audit_commands(CLI::App& app, Session& session);
void add_link_commands(CLI::App& app, Session& session);  // enroll, leave, credential
void add_task_commands(CLI::App& app, Session& session);  // of this host; others: instance task
void add_worker_command(CLI::App& app, Session& session);
void add_config_commands(CLI::App& app, Session& session);
void add_setup_command(CLI::App& app, Session& session);
void add_sandbox_command(CLI::App& app, Session& session);
void add_instance_commands(CLI::App& app, Session& session);
void add_completion_command(CLI::App& app);

// Asks at the terminal for the kid; `verb` without its ending: "destroy", "revok". Throws
// Error{kConfirm} for another one, and without a terminal.
void confirm_by_kid(const wire::Key& key, const std::string& verb, const std::string& warning);
Json key_json(const wire::Key& key);
// Its state, or what prevents every use: "lost", "unusable".
std::string shown_state(const wire::Key& key);
Json link_json(const wire::Link& link);
// Some lines; empty where the agent has no instance.
std::string link_text(const wire::Link& link);
// The key's age in its cryptoperiod, at a glance: "[####......] 41 % of 90 d, rekey 2027-01-03";
// empty where it has none.
std::string life_text(const wire::Key& key);

// "certificate until 2027-01-03", with its problem if it has one; empty when there is nothing to
// report.
std::string certificate_text(const wire::Key& key);

}  // namespace keyagent::cli
