// SPDX-License-Identifier: Apache-2.0
// keyagent key suspend | resume | revoke | retype, and how a key's life is shown.

#include <algorithm>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/cli/cli.h"

namespace keyagent::cli {
namespace {

constexpr long long kDayMs = 86'400'000;
constexpr int kBarWidth = 20;

struct Verb {
  const char *name, *state, *description, *example;
  bool is_final = false;
};

constexpr Verb kVerbs[] = {
    {"suspend", "suspended", "suspend a key until it is resumed",
     "  keyagent key suspend backup-credentials --reason 'host in repair'"},
    {"resume", "active", "resume a suspended key, under the same kid",
     "  keyagent key resume backup-credentials"},
    {"revoke", "compromised",
     "revoke a compromised key: it is no longer used; replace it with keyagent rekey",
     "  keyagent key revoke backup-credentials --reason 'token was stolen'\n"
     "  keyagent rekey backup-credentials --wait",
     true}};

struct KeyStateOptions {
  std::string key, reason;
  bool yes = false;
};

// The kid, of a person who was asked, or of a script that says --yes.
std::string confirmed_kid(Session& session, const KeyStateOptions& options) {
  wire::Request show;
  show.mutable_key_show()->set_key(options.key);
  const auto shown = session.call(show);
  const auto& key = shown.key_show().key();
  if (options.yes || key.state() == "compromised") return key.kid();
  confirm_by_kid(key, "revok",
                 "This revokes key " + key.name() +
                     " permanently: it is no longer used, not even to open what is sealed to it.");
  return key.kid();
}

void run(Session& session, const Verb& verb, const KeyStateOptions& options) {
  wire::Request request;
  auto& change = *request.mutable_key_state();
  if (verb.is_final) change.set_confirm_kid(confirmed_kid(session, options));
  change.set_key(options.key);
  change.set_state(verb.state);
  change.set_reason(options.reason.empty() ? std::string(verb.name) + " on command"
                                           : options.reason);
  const auto response = session.call(request);
  const auto& key = response.key_state().key();
  session.tell(key_json(key), "key " + key.name() + " is " + key.state() + " (" + key.kid() + ")");
}

struct Retype {
  std::string key, purpose;
};

void run_retype(Session& session, const Retype& options) {
  wire::Request request;
  request.mutable_key_retype()->set_key(options.key);
  request.mutable_key_retype()->set_purpose(options.purpose);
  const auto response = session.call(request);
  const auto& key = response.key_retype().key();
  session.tell(key_json(key), "key " + key.name() + " is for " + key.purpose() +
                                  (response.key_retype().changed() ? "" : ", unchanged") + " (" +
                                  key.kid() + ")");
}

std::string period_text(long long ms) {
  return ms >= 2 * kDayMs ? std::to_string(ms / kDayMs) + " d"
                          : std::to_string(ms / 60'000) + " min";
}

}  // namespace

std::string life_text(const wire::Key& key) {
  if (key.state() != "active" || key.period_ms() == 0 || key.activated().empty()) return {};
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(
      system_clock().now() - parse_rfc3339(key.activated()));
  const auto period = static_cast<long long>(key.period_ms());
  const long long percent = std::max(0LL, static_cast<long long>(age.count()) * 100 / period);
  const auto full = static_cast<std::size_t>(std::min<long long>(percent, 100) * kBarWidth / 100);
  std::string text = "[" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "] " +
                     std::to_string(percent) + " % of " + period_text(period);
  if (key.expired()) return text + ", EXPIRED: keyagent rekey " + key.name();
  if (key.past_period())
    return text + ", over: signs and seals until " + key.refused_from().substr(0, 10);
  if (!key.next_rekey().empty()) {
    text += (key.automatic() ? ", rekey " : ", rekey manually ") + key.next_rekey().substr(0, 10);
  }
  return text;
}

void add_key_state_commands(CLI::App& key, Session& session) {
  for (const auto& verb : kVerbs) {
    auto options = std::make_shared<KeyStateOptions>();
    auto* command = add_command(key, verb.name, verb.description, verb.example,
                                [&session, &verb, options] { run(session, verb, *options); });
    command->add_option("KEY", options->key, "name or kid")->required();
    command->add_option("--reason", options->reason, "reason for the ledger and the audit log");
    if (verb.is_final) command->add_flag("--yes", options->yes, "skip the confirmation by kid");
  }
  auto retype = std::make_shared<Retype>();
  auto* command =
      add_command(key, "retype",
                  "narrow a sign key that signs attestations to the purpose for that, permanently",
                  "  keyagent key retype instance-ca --purpose ca",
                  [&session, retype] { run_retype(session, *retype); });
  command->add_option("NAME", retype->key, "name of the key; applies to all its generations")
      ->required();
  command->add_option("--purpose", retype->purpose, "identity, ca or confirm")->required();
}

}  // namespace keyagent::cli
