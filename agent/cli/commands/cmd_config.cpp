// SPDX-License-Identifier: Apache-2.0
// keyagent config check

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/config/config.h"

namespace keyagent::cli {
namespace {

void run_check(Session& session, const std::string& file) {
  Json list = Json::array();
  std::string text;
  for (const auto& finding : config::check_config(file)) {
    list.push_back({{"severity", finding.severity},
                    {"where", finding.where},
                    {"text", finding.text},
                    {"cure", finding.cure},
                    {"id", finding.id},
                    {"commands", finding.commands}});
    text += finding.severity + ": " + finding.where + ": " + finding.text + "\n    fix   " +
            finding.cure + "\n";
    if (finding.severity == "error") session.exit_status = exit_code(Code::kConfiguration);
  }
  session.tell({{"usable", session.exit_status == 0}, {"findings", list}},
               text.empty() ? "no problems found" : text);
}

}  // namespace

void add_config_commands(CLI::App& app, Session& session) {
  CLI::App* config = app.add_subcommand("config", "check the agent's configuration");
  config->require_subcommand(1);
  config->footer("Examples:\n  keyagent config check /etc/keyagent/hsm1.yml");
  auto file = std::make_shared<std::string>();
  auto* check =
      add_command(*config, "check",
                  "report errors and weaknesses with their fixes; exit status 2 if the agent would "
                  "refuse to start",
                  "  keyagent config check /etc/keyagent/hsm1.yml\n  keyagent --json config check "
                  "/etc/keyagent/hsm1.yml",
                  [&session, file] { run_check(session, *file); });
  check->add_option("FILE", *file, "the configuration")->required();
}

}  // namespace keyagent::cli
