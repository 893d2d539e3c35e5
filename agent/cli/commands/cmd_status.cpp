// SPDX-License-Identifier: Apache-2.0
// keyagent status | doctor | why

#include "agent/base/error.h"
#include "agent/cli/cli.h"
#include "agent/config/config.h"

namespace keyagent::cli {
namespace {

std::string duration_text(std::uint64_t ms) {
  const auto seconds = ms / 1000;
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  return std::to_string(seconds / 3600) + " h";
}

Json token_json(const wire::Token& token) {
  return {{"state", token.state()},
          {"detail", token.detail()},
          {"label", token.label()},
          {"serial", token.serial()},
          {"manufacturer", token.manufacturer()},
          {"model", token.model()},
          {"firmware", token.firmware()},
          {"profile", token.profile()},
          {"epoch", token.epoch()},
          {"sessions_open", token.sessions_open()},
          {"sessions_busy", token.sessions_busy()},
          {"sessions_limit", token.sessions_limit()},
          {"stuck_calls", token.stuck_calls()},
          {"operations", token.operations()},
          {"faults", token.faults()},
          {"recoveries", token.recoveries()},
          {"logins", token.logins()}};
}

// Who may not open with a key for now, and until when.
Json paused_json(const wire::StatusReply& reply) {
  Json paused = Json::array();
  for (const auto& each : reply.paused()) {
    paused.push_back({{"caller", each.caller()},
                      {"key", each.key()},
                      {"kid", each.kid()},
                      {"failures", each.failures()},
                      {"until", each.until()}});
  }
  return paused;
}

std::string paused_text(const wire::StatusReply& reply) {
  std::string text;
  for (const auto& each : reply.paused()) {
    text += "\npaused    " + each.caller() + " with key " + each.key() + " until " + each.until() +
            ": " + std::to_string(each.failures()) + " failed envelopes";
  }
  return text;
}

void run_status(Session& session) {
  wire::Request request;
  request.mutable_status();
  const auto response = session.call(request);
  const auto& reply = response.status();
  Json keys = Json::array();
  for (const auto& key : reply.keys()) keys.push_back(key_json(key));
  const Json out{{"version", reply.version()},
                 {"agent_id", reply.agent_id()},
                 {"pid", reply.pid()},
                 {"uptime_ms", reply.uptime_ms()},
                 {"token", token_json(reply.token())},
                 {"keys", keys},
                 {"audit",
                  {{"records", reply.audit_records()},
                   {"healthy", reply.audit_healthy()},
                   {"fault", reply.audit_fault()}}},
                 {"use_only", reply.use_only()},
                 {"ledger_epoch", reply.ledger_epoch()},
                 {"findings", reply.findings()},
                 {"requests", reply.requests()},
                 {"refused", reply.refused()},
                 {"failed", reply.failed()},
                 {"connections", reply.connections()},
                 {"queued", reply.queued()},
                 {"paused", paused_json(reply)},
                 {"config", reply.config_path()},
                 {"policy_loaded", reply.policy_loaded()},
                 {"link", link_json(reply.link())}};
  const auto& token = reply.token();
  std::string text = "agent     " + reply.agent_id() + ", keyagentd " + reply.version() + ", pid " +
                     std::to_string(reply.pid()) + ", up " + duration_text(reply.uptime_ms()) +
                     "\ntoken     " + token.state() + ": '" + token.label() + "' serial " +
                     token.serial() + " (" + token.manufacturer() + ", profile " + token.profile() +
                     ")";
  if (token.state() != "up") text += "\n          " + token.detail();
  text += "\nsessions  " + std::to_string(token.sessions_busy()) + " busy of " +
          std::to_string(token.sessions_limit()) + ", " + std::to_string(token.operations()) +
          " operations, " + std::to_string(token.faults()) + " faults, " +
          std::to_string(token.recoveries()) + " recoveries\nrequests  " +
          std::to_string(reply.requests()) + ", refused " + std::to_string(reply.refused()) +
          ", failed " + std::to_string(reply.failed()) + "; " +
          std::to_string(reply.connections()) + " connections\naudit     " +
          std::to_string(reply.audit_records()) + " records" +
          (reply.audit_healthy() ? "" : ", CANNOT BE WRITTEN");
  if (!reply.audit_fault().empty()) text += "\n          " + reply.audit_fault();
  if (!reply.use_only().empty()) text += "\nuse only  " + reply.use_only();
  text += "\nkeys      ";
  if (reply.keys().empty()) text += "(no visible keys)";
  bool first = true;
  for (const auto& key : reply.keys()) {
    text += (first ? "" : "\n          ") + key.name() + " (" + key.purpose() + ", " +
            key.algorithm() + ", " + shown_state(key) + (key.usable() ? "" : ", NOT USABLE") +
            (key.accepts_cbc() ? ", accepts AES-CBC" : "") + ") " + key.kid();
    if (const std::string life = life_text(key); !life.empty()) text += "\n            " + life;
    if (const std::string certificate = certificate_text(key); !certificate.empty())
      text += "\n            " + certificate;
    first = false;
  }
  text += paused_text(reply);
  if (std::string link = link_text(reply.link()); !link.empty()) {
    for (auto at = link.find('\n'); at != link.npos; at = link.find('\n', at + 9))
      link.insert(at + 1, "        ");
    text += "\nlink      " + link;
  }
  if (reply.findings() > 0)
    text += "\n" + std::to_string(reply.findings()) + " findings: keyagent doctor";
  session.tell(out, text);
}

struct Finding {
  std::string severity, code, kid, subject, text, cure, id;
  std::vector<std::string> commands;
};

void tell_findings(Session& session, const std::vector<Finding>& findings) {
  Json list = Json::array();
  std::string text;
  for (const auto& finding : findings) {
    list.push_back({{"severity", finding.severity},
                    {"code", finding.code},
                    {"kid", finding.kid},
                    {"subject", finding.subject},
                    {"text", finding.text},
                    {"cure", finding.cure},
                    {"id", finding.id},
                    {"commands", finding.commands}});
    text += finding.severity + ": " + finding.code +
            (finding.subject.empty() ? "" : " " + finding.subject) + ": " + finding.text + "\n" +
            (finding.kid.empty() ? "" : "    kid   " + finding.kid + "\n") +
            (finding.cure.empty() ? "" : "    fix   " + finding.cure + "\n");
  }
  session.tell({{"findings", list}, {"exit", session.exit_status}},
               findings.empty() ? "No problems found." : text);
}

// Without an agent: checks its configuration, which is usually the reason.
void diagnose_offline(Session& session, const std::string& config, const Error& why) {
  const auto& away = finding_kind("agent-away");
  const auto cure = fix_of(away, {});
  std::vector<Finding> findings{{std::string(away.severity), std::string(away.code), "", "",
                                 why.what(), cure.text, std::string(away.id), cure.commands}};
  session.exit_status = exit_code(why.code());
  if (!config.empty()) {
    for (const auto& each : config::check_config(config)) {
      findings.push_back({each.severity, "CONFIGURATION", "", each.where, each.text, each.cure,
                          each.id, each.commands});
      if (each.severity == "error") session.exit_status = exit_code(Code::kConfiguration);
    }
  }
  tell_findings(session, findings);
}

void run_doctor(Session& session, const std::string& config) {
  wire::Request request;
  request.mutable_doctor();
  wire::Response response;
  try {
    response = session.call(request);
  } catch (const Error& error) {
    if (error.code() != Code::kPeer) throw;
    return diagnose_offline(session, config, error);
  }
  std::vector<Finding> findings;
  for (const auto& each : response.doctor().findings()) {
    findings.push_back({each.severity(),
                        each.code(),
                        each.kid(),
                        each.subject(),
                        each.text(),
                        each.cure(),
                        each.id(),
                        {each.commands().begin(), each.commands().end()}});
  }
  session.exit_status = static_cast<int>(response.doctor().exit_code());
  tell_findings(session, findings);
}

struct Why {
  std::string action, key, peer, credential;
  long uid = -1;
};

void run_why(Session& session, const Why& why) {
  wire::Request request;
  request.mutable_why()->set_action(why.action);
  request.mutable_why()->set_key(why.key);
  request.mutable_why()->set_peer(why.peer);
  request.mutable_why()->set_credential(why.credential);
  if (why.uid >= 0) {
    request.mutable_why()->set_uid(static_cast<std::uint32_t>(why.uid));
    request.mutable_why()->set_has_uid(true);
  }
  const auto response = session.call(request);
  const auto& reply = response.why();
  session.tell({{"allowed", reply.allowed()},
                {"rule", reply.rule()},
                {"where", reply.where()},
                {"reason", reply.reason()},
                {"principal", reply.principal()}},
               std::string(reply.allowed() ? "allowed: " : "denied: ") + reply.reason());
  if (!reply.allowed()) session.exit_status = exit_code(Code::kDenied);
}

void run_reload(Session& session) {
  wire::Request request;
  request.mutable_reload();
  const auto response = session.call(request);
  session.tell({{"text", response.reload().text()}}, response.reload().text());
}

}  // namespace

void add_status_commands(CLI::App& app, Session& session) {
  add_command(app, "status", "show the agent, its token and the visible keys",
              "  keyagent status\n  keyagent --json status | jq .token.state",
              [&session] { run_status(session); });
  add_command(app, "reload",
              "reload policy, limits and cryptoperiods, and accept the present clock",
              "  keyagent reload", [&session] { run_reload(session); });
  auto config = std::make_shared<std::string>();
  auto* doctor = add_command(
      app, "doctor", "diagnose problems and print the fix for each; also works without an agent",
      "  keyagent doctor\n  keyagent doctor --config /etc/keyagent/hsm1.yml",
      [&session, config] { run_doctor(session, *config); });
  doctor->add_option("--config", *config,
                     "configuration of the agent, checked if the agent is not running");
  auto why = std::make_shared<Why>();
  auto* why_command = add_command(
      app, "why", "show whether the policy allows an action, and the rule that decides",
      "  keyagent why open backup-credentials\n  keyagent why sign releases --uid 1000\n"
      "  keyagent why work deploy --uid 990 --credential db-main",
      [&session, why] { run_why(session, *why); });
  why_command
      ->add_option("ACTION", why->action,
                   "open seal sign public create destroy rekey suspend reseal decrypt agree status "
                   "audit admin credential work export import prove")
      ->required();
  why_command->add_option("KEY", why->key, "name or kid");
  why_command->add_option("--peer", why->peer,
                          "for export and import: the kid of the peer's identity");
  why_command->add_option("--credential", why->credential,
                          "for work: may a task of this handler have that credential");
  why_command->add_option("--uid", why->uid, "for another user (needs the admin action)")
      ->check(CLI::Range(0L, 4294967294L));
}

}  // namespace keyagent::cli
