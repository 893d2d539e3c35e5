// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <iostream>

#include "agent/base/encoding.h"
#include "agent/cli/cli.h"

namespace keyagent::cli {

client::Client& Session::agent() {
  if (!client_) {
    client::Client::Options options;
    options.socket = client::socket_path(globals.socket);
    options.deadline = std::chrono::seconds(60);
    client_ = std::make_unique<client::Client>(options);
  }
  return *client_;
}

void Session::tell(const Json& object, const std::string& text) const {
  if (globals.json) {
    // Bytes that are not UTF-8 must not make an answer fail: they are replaced.
    std::cout << object.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  } else if (!globals.quiet && !text.empty()) {
    std::cout << text << (text.back() == '\n' ? "" : "\n");
  }
  std::cout.flush();
}

void Session::note(const std::string& text) const {
  if (!globals.quiet && !globals.json) std::cerr << text << "\n";
}

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                      const std::string& examples, std::function<void()> run) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->footer("Examples:\n" + examples);
  command->callback(std::move(run));
  return command;
}

// Agents before 0.2 do not send it.
std::string shown_state(const wire::Key& key) {
  return key.shown().empty() ? key.state() : key.shown();
}

Json key_json(const wire::Key& key) {
  Json out{{"kid", key.kid()},
           {"name", key.name()},
           {"generation", key.generation()},
           {"purpose", key.purpose()},
           {"algorithm", key.algorithm()},
           {"envelope", key.envelope()},
           {"state", key.state()},
           {"shown", shown_state(key)},
           {"usable", key.usable()},
           {"cka_id", key.cka_id()},
           {"created", key.created()},
           {"changed", key.changed()},
           {"reason", key.reason()},
           {"actor", key.actor()},
           {"activated", key.activated()},
           {"period_ms", key.period_ms()},
           {"automatic", key.automatic()},
           {"next_rekey", key.next_rekey()},
           {"period_end", key.period_end()},
           {"refused_from", key.refused_from()},
           {"expired", key.expired()},
           {"used", key.used()},
           {"sealed", key.sealed()},
           {"certificate_until", key.certificate_until()},
           {"exchangeable", key.exchangeable()},
           {"accepts_cbc", key.accepts_cbc()},
           {"origin", key.origin()}};
  if (!key.finding().empty()) out["finding"] = key.finding();
  if (!key.certificate_finding().empty()) out["certificate_finding"] = key.certificate_finding();
  return out;
}

}  // namespace keyagent::cli
