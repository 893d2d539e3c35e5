// SPDX-License-Identifier: Apache-2.0
// Reports to users: events, status, doctor.

#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/daemon/daemon_impl.h"
#include "agent/wire/diagnosis.h"

namespace keyagent::daemon {

// Of a key: into log and audit log, an alarm to the instance too.
void Daemon::Impl::tell(const keys::KeyEvent& happening) {
  chronicle.key(happening);
  if (happening.weight == keys::KeyEvent::Weight::kAlarm) link.report(happening);
}

// The ledger may have been opened without write access, and not be reopened yet.
std::string Daemon::Impl::use_only() const {
  auto why = state.use_only();
  if (why.empty() && !keys.use_only().empty())
    why = "nothing is changed: the ledger in " + config.state_folder.string() +
          " was opened without write access; the agent opens it again within seconds";
  return why;
}

std::vector<LimitUsage> Daemon::Impl::usage() const {
  auto out = gate->usage();
  out.push_back({"limits.connections", "", server->stats().connections, max_connections,
                 "ss -xp lists their owners; close some, or raise the limit", false});
  out.push_back({"limits.unfinished-bytes-per-uid", "", server->stats().unfinished, max_unfinished,
                 "a user sends requests in pieces: ss -xp lists the connections", false});
  out.push_back({"limits.ledger-history", "", keys.history_size(), max_history,
                 "raise the limit to keep more; the audit log keeps every change", true});
  const auto most = static_cast<std::uint64_t>(rekeys.periods().rekeys.generations);
  std::map<std::string, std::uint64_t> generations;
  for (const auto& key : keys.list())
    if (key.state != KeyState::kDestroyed && key.origin.empty()) ++generations[key.name.text()];
  for (const auto& [name, count] : generations)
    out.push_back({"rekey.max-generations", name, count, most,
                   "keyagent key show " + name + " shows what keeps its old generations", false});
  return out;
}

void Daemon::Impl::complete(wire::StatusReply& reply) {
  reply.set_version(KEYAGENT_VERSION);
  reply.set_agent_id(config.agent_id);
  reply.set_pid(static_cast<std::uint32_t>(::getpid()));
  const auto up = system_clock().now_steady() - started;
  reply.set_uptime_ms(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(up).count()));
  reply.set_config_path(config.source.string());
  reply.set_connections(static_cast<std::uint32_t>(server->stats().connections));
  reply.set_use_only(use_only());
  link.describe(*reply.mutable_link());
  const MutexLock guard(policy_mutex);
  reply.set_policy_loaded(rfc3339(policy_loaded));
}

std::vector<wire::Diagnosis> Daemon::Impl::diagnose() {
  std::vector<wire::Diagnosis> out;
  for (const auto& finding : config::check_config(config.source)) {
    auto& diagnosis = out.emplace_back();
    diagnosis.set_id(finding.id);
    diagnosis.set_severity(finding.severity);
    diagnosis.set_code("CONFIGURATION");
    diagnosis.set_subject(finding.where);
    diagnosis.set_text(finding.text);
    diagnosis.set_cure(finding.cure);
    diagnosis.mutable_commands()->Assign(finding.commands.begin(), finding.commands.end());
  }
  if (const auto fault = rekeys.clock_fault(); !fault.empty())
    out.push_back(wire::make_diagnosis(
        finding_kind("clock-untrusted"),
        fault + "; nothing expires and nothing is destroyed until the clock is trusted", {},
        "clock"));
  const std::string folder = config.state_folder.string();
  if (const auto why = use_only(); !why.empty())
    out.push_back(
        wire::make_diagnosis(finding_kind("state-read-only"), why, {{"folder", folder}}, folder));
  {
    const MutexLock guard(damage_mutex);
    const auto all = keys.findings();
    const bool known = std::any_of(all.begin(), all.end(), [](const auto& each) {
      return each.kind == keys::Finding::Kind::kRollback;
    });
    if (!damage.empty() && !known)
      out.push_back(wire::make_diagnosis(finding_kind("token-object-damaged"), damage, {},
                                         config.token_label));
  }
  for (auto& each : diagnose_limits(usage())) out.push_back(std::move(each));
  for (auto& each : history.diagnose()) out.push_back(std::move(each));
  for (auto& each : link.diagnose()) out.push_back(std::move(each));
  return out;
}

std::string Daemon::Impl::status_line() {
  const auto status = token->status();
  return status.state == pkcs11::TokenState::kUp ? "token " + status.label + " is up"
                                                 : "token: " + status.detail;
}

}  // namespace keyagent::daemon
