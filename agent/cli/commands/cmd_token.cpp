// SPDX-License-Identifier: Apache-2.0
// keyagent token init | list | probe | change-pin: the only commands that load a PKCS#11 module.

#include <filesystem>

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/cli/files.h"
#include "agent/cli/local/installed.h"
#include "agent/cli/table.h"
#include "agent/config/trusted_files.h"
#include "agent/vault/translate.h"
#include "pkcs11/libp11_view.h"
#include "pkcs11/probe.h"

namespace keyagent::cli {
namespace {

struct TokenOptions {
  std::string profile, module, state = ".", label, serial, pin = "prompt", so_pin = "prompt",
                               new_pin = "prompt";
  bool of_so = false;
};

std::filesystem::path state_of(const TokenOptions& options) {
  return std::filesystem::absolute(options.state).lexically_normal();
}

// The profile and the module see the PIN: both are checked as the daemon checks them, for the user
// that runs this command.
pkcs11::Profile load(const TokenOptions& options) {
  const auto file = find_profile(options.profile);
  auto profile = config::load_trusted_profile(file);
  if (!options.module.empty()) {
    if (options.module[0] != '/') throw Error(Code::kUsage, "--module must be an absolute path");
    profile.modules = {options.module};
  }
  config::require_files(config::files_of_profile(file, profile, state_of(options)));
  return profile;
}

Json listing_json(const pkcs11::TokenListing& token) {
  return {{"label", token.label},
          {"serial", token.serial},
          {"manufacturer", token.manufacturer},
          {"model", token.model},
          {"initialised", token.initialized},
          {"user_pin_set", token.user_pin_set},
          {"login_required", token.login_required},
          {"pin_count_low", token.pin_count_low},
          {"pin_final_try", token.pin_final_try},
          {"pin_locked", token.pin_locked}};
}

std::string pin_text(const pkcs11::TokenListing& token) {
  if (!token.initialized) return {};
  return token.pin_locked      ? "LOCKED"
         : token.pin_final_try ? "ONE TRY LEFT"
         : token.user_pin_set  ? "set"
                               : "no user PIN";
}

std::string listing_text(const pkcs11::TokenListing& token) {
  return "'" + token.label + "'  serial " + token.serial + "  " + token.manufacturer + " " +
         token.model + "  PIN: " + pin_text(token) + "\n";
}

void run_list(Session& session, const TokenOptions& options) {
  pkcs11::Libp11View view(load(options), state_of(options));
  Json list = Json::array();
  Table table({"LABEL", "SERIAL", "MANUFACTURER", "MODEL", "PIN"});
  for (const auto& token : view.tokens()) {
    list.push_back(listing_json(token));
    table.add({token.initialized ? token.label : "(free)", token.serial, token.manufacturer,
               token.model, pin_text(token)});
  }
  session.tell({{"tokens", list}}, table.text_or("The module lists no tokens."));
}

void run_init(Session& session, const TokenOptions& options) {
  pkcs11::Libp11View view(load(options), state_of(options));
  for (const auto& token : view.tokens()) {
    if (!token.initialized || token.label != options.label) continue;
    Json out = listing_json(token);
    out["already"] = true;
    return session.tell(out, "already exists: " + listing_text(token));
  }
  const auto so_pin = read_pin(options.so_pin, "SO PIN for the new token");
  const auto pin = read_pin(options.pin, "PIN for the new token");
  const auto made = view.init_token(options.label, so_pin, pin);
  Json out = listing_json(made);
  out["already"] = false;
  session.tell(out, "initialized " + listing_text(made));
}

void run_change_pin(Session& session, const TokenOptions& options) {
  pkcs11::Libp11View view(load(options), state_of(options));
  const auto before = read_pin(options.pin, "present PIN");
  const auto after = read_pin(options.new_pin, "new PIN");
  view.change_pin({options.label, options.serial}, before, after, options.of_so);
  session.tell({{"changed", true}, {"label", options.label}},
               "the PIN is changed; update the agent's PIN source, then restart the agent");
}

const char* outcome_text(pkcs11::ProbeResult::Outcome outcome) {
  using Outcome = pkcs11::ProbeResult::Outcome;
  switch (outcome) {
    case Outcome::kWorks:
      return "works";
    case Outcome::kAbsent:
      return "absent";
    case Outcome::kFails:
      return "FAILS";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kLeaks:
      break;
  }
  return "LEAKS";
}

void run_probe(Session& session, const TokenOptions& options) {
  pkcs11::TokenOptions wanted;
  wanted.selector = {options.label, options.serial};
  wanted.state_folder = state_of(options);
  wanted.pin = [pin = read_pin(options.pin, "PIN of the token")] { return pin; };
  pkcs11::Token token(load(options), wanted);
  const auto report = pkcs11::probe(token, [&](int done, int total, const std::string& name) {
    session.note("[" + std::to_string(done + 1) + "/" + std::to_string(total) + "] " + name);
  });
  Json list = Json::array();
  std::string text = "token '" + report.token.label + "' serial " + report.token.serial + " (" +
                     report.token.manufacturer + " " + report.token.model + ")\n";
  for (const auto& result : report.results) {
    list.push_back({{"name", result.name},
                    {"outcome", outcome_text(result.outcome)},
                    {"claimed", result.claimed},
                    {"detail", result.detail},
                    {"p50_us", result.p50_us},
                    {"worst_us", result.p999_us}});
    std::string line = std::string("  ") + outcome_text(result.outcome);
    line.resize(11, ' ');
    line += result.name;
    if (result.p50_us > 0)
      line += "  (" + std::to_string(static_cast<long>(result.p50_us)) + " us)";
    const bool surprising =
        result.claimed != (result.outcome == pkcs11::ProbeResult::Outcome::kWorks ||
                           result.outcome == pkcs11::ProbeResult::Outcome::kRefused);
    text += line + (result.detail.empty() ? "" : "  " + result.detail) +
            (surprising ? "  <- differs from the profile" : "") + "\n";
  }
  session.tell(
      {{"token", {{"label", report.token.label}, {"serial", report.token.serial}}},
       {"sound", report.sound()},
       {"results", list}},
      text + (report.sound() ? "The token matches its profile, and no key could be extracted."
                             : "THE TOKEN DIFFERS FROM ITS PROFILE: see above."));
  if (!report.sound()) session.exit_status = exit_code(Code::kIntegrity);
}

void add_common(CLI::App* command, const std::shared_ptr<TokenOptions>& options) {
  command->add_option("--profile", options->profile, "profile name (softhsm2, tpm2, …) or file")
      ->required();
  command->add_option("--module", options->module, "use this module file (absolute path)");
  command->add_option("--state", options->state, "folder that replaces ${state} in the profile");
}

CLI::App* add(CLI::App& parent, Session& session, const std::shared_ptr<TokenOptions>& options,
              const char* name, const char* description, const char* examples,
              void (*run)(Session&, const TokenOptions&)) {
  auto* command = add_command(parent, name, description, examples, [&session, options, run] {
    vault::translated({}, [&] { run(session, *options); });
  });
  add_common(command, options);
  return command;
}

}  // namespace

void add_token_commands(CLI::App& app, Session& session) {
  CLI::App* token = app.add_subcommand("token", "set up and examine tokens (needs no agent)");
  token->require_subcommand(1);
  token->footer("Examples:\n  keyagent token list --profile softhsm2 --state /var/lib/keyagent/ci");

  auto list = std::make_shared<TokenOptions>();
  add(*token, session, list, "list", "list the tokens of the module",
      "  keyagent token list --profile tpm2 --state /var/lib/keyagent/tpm", run_list);

  auto init = std::make_shared<TokenOptions>();
  auto* init_command =
      add(*token, session, init, "init",
          "initialize a free token; reports an existing token of this label",
          "  keyagent token init --profile softhsm2 --state DIR --label ci --pin-source "
          "file:/DIR/pin --so-pin-source file:/DIR/so-pin",
          run_init);
  init_command->add_option("--label", init->label, "1 to 32 characters")
      ->required()
      ->check([](const std::string& text) {
        return text.empty() || text.size() > 32 ? std::string("a label has 1 to 32 characters")
                                                : std::string();
      });
  init_command->add_option("--pin-source", init->pin,
                           "the user PIN: file:/path (0400), prompt or fd:N");
  init_command->add_option("--so-pin-source", init->so_pin,
                           "the SO PIN: file:/path (0400), prompt or fd:N");

  auto probe = std::make_shared<TokenOptions>();
  auto* probe_command = add(
      *token, session, probe, "probe", "test every mechanism and try to extract a key",
      "  keyagent token probe --profile softhsm2 --state DIR --label ci --pin-source file:/DIR/pin",
      run_probe);
  probe_command->add_option("--label", probe->label, "label of the token");
  probe_command->add_option("--serial", probe->serial, "serial number of the token");
  probe_command->add_option("--pin-source", probe->pin,
                            "the user PIN: file:/path (0400), prompt or fd:N");

  auto change = std::make_shared<TokenOptions>();
  auto* change_command = add(*token, session, change, "change-pin",
                             "change the user PIN; makes one attempt, never the last one",
                             "  keyagent token change-pin --profile softhsm2 --state DIR --label "
                             "ci --pin-source file:/DIR/pin --new-pin-source file:/DIR/new",
                             run_change_pin);
  change_command->add_option("--label", change->label, "label of the token");
  change_command->add_option("--serial", change->serial, "serial number of the token");
  change_command->add_option("--pin-source", change->pin,
                             "the current PIN: file:/path (0400), prompt or fd:N");
  change_command->add_flag("--so", change->of_so, "change the SO PIN instead of the user PIN");
  change_command->add_option("--new-pin-source", change->new_pin,
                             "the new PIN: file:/path (0400), prompt or fd:N");
}

}  // namespace keyagent::cli
