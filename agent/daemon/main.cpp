// SPDX-License-Identifier: Apache-2.0
// keyagentd: the daemon that owns a token's sessions.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/daemon/daemon.h"
#include "agent/process/hardening.h"
#include "agent/vault/translate.h"

namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  keyagentd --config /etc/keyagent/hsm1.yml --check   report errors and weaknesses, start "
    "nothing\n"
    "  keyagentd --config /etc/keyagent/hsm1.yml           run in the foreground, as the systemd "
    "unit does\n"
    "\n"
    "Signals: SIGHUP reloads policy and limits, SIGTERM stops. Manual: keyagentd(8), "
    "keyagentd.yml(5).";

struct Arguments {
  std::string config;
  bool check = false;
  bool allow_root = false;
};

int check(const std::string& path) {
  int status = 0;
  for (const auto& finding : keyagent::config::check_config(path)) {
    std::cout << finding.severity << ": " << finding.where << ": " << finding.text << "; "
              << finding.cure << "\n";
    if (finding.severity == "error") status = 2;
  }
  if (status == 0) std::cout << "the configuration is valid\n";
  return status;
}

int serve(const Arguments& arguments) {
  using keyagent::Code;
  using keyagent::Error;
  auto config = keyagent::config::load_config(arguments.config);
  keyagent::configure_log(config.log_level, config.log_format);
  if (::geteuid() == 0 && !arguments.allow_root) {
    throw Error(Code::kConfiguration,
                "keyagentd does not run as root: use the keyagentd@ systemd unit or another user "
                "(or --allow-root, in a dedicated container)");
  }
  for (const auto& finding : keyagent::config::check_config(arguments.config)) {
    if (finding.severity == "error")
      throw Error(Code::kConfiguration, finding.where + ": " + finding.text + "; " + finding.cure);
    keyagent::log_warning("config", finding.where + ": " + finding.text + "; " + finding.cure);
  }
  // Before any thread: all of them leave these to run().
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  keyagent::daemon::Daemon daemon(std::move(config));
  const int status = daemon.run();
  std::cout.flush();
  // Modules leave exit handlers and threads behind that crash in a destructor's order (RELIABILITY
  // 41).
  ::_exit(status);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("keyagentd: holds a PKCS#11 token and uses its keys for the programs of this host");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("keyagentd ") + KEYAGENT_VERSION);
  app.add_option("--config", arguments.config, "configuration file (YAML)")->required();
  app.add_flag("--check", arguments.check,
               "check the configuration and all files it names, then exit");
  app.add_flag("--allow-root", arguments.allow_root, "run although the user is root");
  try {
    keyagent::process::harden_process(argv, environ);
    app.parse(argc, argv);
    return arguments.check ? check(arguments.config) : serve(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const keyagent::Error& error) {
    std::fprintf(stderr, "keyagentd: %s: %s\n", std::string(code_name(error.code())).c_str(),
                 error.what());
    return keyagent::exit_code(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "keyagentd: %s\n", error.what());
    return keyagent::exit_code(keyagent::vault::translate(error).code());
  }
}
