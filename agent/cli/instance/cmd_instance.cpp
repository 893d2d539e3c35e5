// SPDX-License-Identifier: Apache-2.0
// keyagent instance: what people do with an instance. Login, agents, tokens, rekeys, events, users.

#include "agent/cli/instance/cmd_instance.h"

#include "agent/base/error.h"
#include "agent/base/secret_text.h"
#include "agent/base/wiping.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/instance_client.h"
#include "agent/cli/poll_until_timeout.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

void run_login(Session& session, const InstanceOptions& options) {
  InstanceProfile profile{options.url, options.fingerprint, options.user, {}};
  InstanceClient client(profile);
  const std::string what = "password of " + options.user;
  const auto password = options.password_file.empty()
                            ? read_pin("prompt", what)
                            : read_secret_text(options.password_file, "the " + what);
  Json request{{"user", options.user}, {"password", std::string(password.begin(), password.end())}};
  const Wiping wiping(request);
  const Json answer = client.call("POST", "/v1/login", request);
  profile.session = answer.at("session").get<std::string>();
  save_instance_profile(instance_profile_path(options.profile), profile);
  session.tell({{"user", options.user}, {"role", answer["role"]}, {"expires", answer["expires"]}},
               options.user + " is " + answer["role"].get<std::string>() + " until " +
                   answer["expires"].get<std::string>());
}

void run_logout(Session& session, const InstanceOptions& options) {
  if (!options.user.empty()) {
    const Json answer = client_of(options).call(
        "POST", "/v1/users/" + path_segment(options.user) + "/logout", Json::object());
    return session.tell(answer,
                        "ended " + answer.at("ended").dump() + " sessions of " + options.user);
  }
  const auto path = instance_profile_path(options.profile);
  auto profile = load_instance_profile(path);
  InstanceClient(profile).call("POST", "/v1/logout", {{"all", options.all}});
  profile.session.clear();
  save_instance_profile(path, profile);
  session.tell(Json::object(), options.all ? "logged out everywhere" : "logged out");
}

std::string agents_text(const Json& agents) {
  Table table({"AGENT", "STATE", "FINGERPRINT", "LAST SEEN", "ADDRESS", "TLS"});
  for (const auto& each : agents) {
    const Json tls = each.value("tls", Json::object());
    table.add({text_at(each, "id"), text_at(each, "shown"), text_at(each, "auth_kid"),
               text_at(each, "last_seen"), text_at(tls, "address"), text_at(tls, "version")});
  }
  return table.text_or("none\n");
}

std::string rekeys_text(const Json& rekeys) {
  Table table({"AGENT", "KEY", "STATE", "CANARY", "OLD KID", "NEW KID", "DETAIL"});
  for (const auto& each : rekeys)
    table.add({text_at(each, "agent"), text_at(each, "key"), text_at(each, "state"),
               each.value("canary", false) ? "yes" : "", text_at(each, "old_kid"),
               text_at(each, "new_kid"), text_at(each, "detail")});
  return table.text_or("none\n");
}

std::string events_text(const Json& events) {
  Table table({"SEQ", "AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "COUNT", "TEXT"});
  for (const auto& each : events) {
    const auto count = text_at(each, "count");
    table.add({text_at(each, "seq"), text_at(each, "at"), text_at(each, "actor"),
               text_at(each, "action"), text_at(each, "subject"), text_at(each, "outcome"),
               count == "1" ? "" : count, text_at(each, "text")});
  }
  return table.text_or("none\n");
}

std::string users_text(const Json& users) {
  Table table({"NAME", "ROLE", "STATE"});
  for (const auto& each : users)
    table.add({text_at(each, "name"), text_at(each, "role"),
               each.value("disabled", false) ? "disabled" : "enabled"});
  return table.text_or("none\n");
}

std::string restored_text(const Json& status) {
  const Json restored = status.value("restored", Json());
  if (!restored.is_object()) return "";
  return "RESTORED: the store was restored from a backup: agents know of event " +
         text_at(restored, "epoch") + ", it has " + text_at(restored, "last") + ", seen " +
         text_at(restored, "since") + " by " + text_at(restored, "agent") +
         "\n"
         "agents are not served: repeat the revocations made since that backup, then run: keyagent "
         "instance restored --accept\n";
}

void run_status(Session& session, const InstanceOptions& options) {
  const Json status = client_of(options).call("GET", "/v1/status");
  std::string counts;
  for (const auto& [shown, count] : status.at("agents").items())
    counts += "  " + shown + " " + count.dump();
  session.tell(status, "instance " + text_at(status, "instance") + ", version " +
                           text_at(status, "version") + "\nfingerprint " +
                           text_at(status, "ca_fingerprint") + "\nstore " +
                           text_at(status, "store") + "\nagents" +
                           (counts.empty() ? "  none" : counts) + "\nyou are " +
                           text_at(status, "user") + " (" + text_at(status, "role") + ")\n" +
                           restored_text(status));
}

void run_restored(Session& session, const InstanceOptions& options) {
  auto client = client_of(options);
  if (options.accept) {
    // What was learned since is not accepted unseen.
    const Json seen = client.call("GET", "/v1/status").value("restored", Json());
    const Json answer = client.call(
        "POST", "/v1/restored/accept",
        {{"epoch", seen.is_object() ? seen.value("epoch", std::int64_t{0}) : std::int64_t{0}}});
    return session.tell(answer,
                        "accepted; event numbers continue from " + text_at(answer, "epoch"));
  }
  const Json status = client.call("GET", "/v1/status");
  const auto text = restored_text(status);
  session.tell({{"restored", status.value("restored", Json())}},
               text.empty() ? "the store was not restored from a backup\n" : text);
}

void run_agents(Session& session, const InstanceOptions& options) {
  const auto target =
      options.agent.empty() ? "/v1/agents" : "/v1/agents/" + path_segment(options.agent);
  const Json answer = client_of(options).call("GET", target);
  session.tell(answer, agents_text(answer.at("agents")));
}

void run_trust(Session& session, const InstanceOptions& options, const std::string& verb) {
  Json body{{"reason", options.reason}};
  if (verb == "approve" || !options.fingerprint.empty()) body["fingerprint"] = options.fingerprint;
  const Json answer = client_of(options).call(
      "POST", "/v1/agents/" + path_segment(options.agent) + "/" + verb, body);
  if (tell_pending(session, answer)) return;
  session.tell(answer, agents_text(answer.at("agents")));
}

void run_groups(Session& session, const InstanceOptions& options) {
  const Json answer =
      client_of(options).call("POST", "/v1/agents/" + path_segment(options.agent) + "/groups",
                              {{"groups", options.groups}});
  session.tell(answer, agents_text(answer.at("agents")));
}

void run_token(Session& session, const InstanceOptions& options) {
  const Json answer = client_of(options).call("POST", "/v1/tokens",
                                              {{"agent", options.agent},
                                               {"groups", options.groups},
                                               {"hours", options.hours},
                                               {"inherit", options.inherit}});
  const auto token = answer.at("token").get<std::string>();
  if (options.output != "-") write_output(options.output, as_bytes(token + "\n"));
  if (answer.contains("decision"))
    session.note("valid after another person approves it: keyagent instance decision approve " +
                 text_at(answer["decision"], "id"));
  else
    session.note("valid once, until " + text_at(answer, "expires") +
                 ": keyagent enroll URL --token-file FILE");
  if (options.output == "-") session.tell(answer, token);
}

bool all_ended(const Json& rekeys) {
  for (const auto& each : rekeys) {
    const auto state = text_at(each, "state");
    if (state != "confirmed" && state != "failed" && state != "cancelled") return false;
  }
  return true;
}

void run_rekey(Session& session, const InstanceOptions& options) {
  auto client = client_of(options);
  Json answer = client.call("POST", "/v1/rekeys",
                            {{"agents", options.agents},
                             {"groups", options.groups},
                             {"all", options.all},
                             {"key", options.key},
                             {"canary_percent", options.canary},
                             {"parallel", options.parallel}});
  const auto batch = answer.at("batch").get<std::string>();
  const PollUntilTimeout patience(options.timeout);
  while (options.wait && !all_ended(answer.at("rekeys"))) {
    patience.rest("not all rekeys have ended; the orders stay: keyagent instance rekeys " + batch);
    answer = client.call("GET", "/v1/rekeys?batch=" + batch);
    answer["batch"] = batch;
  }
  for (const auto& each : answer.at("rekeys")) {
    if (options.wait && text_at(each, "state") != "confirmed")
      session.exit_status = exit_code(Code::kPartial);
  }
  session.tell(answer, "batch " + batch + "\n" + rekeys_text(answer.at("rekeys")));
}

void run_rekeys(Session& session, const InstanceOptions& options) {
  auto client = client_of(options);
  const Json answer =
      options.cancel ? client.call("POST", "/v1/rekeys/" + path_segment(options.batch) + "/cancel")
                     : client.call("GET", "/v1/rekeys?batch=" + path_segment(options.batch));
  session.tell(answer, rekeys_text(answer.at("rekeys")));
}

void run_events(Session& session, const InstanceOptions& options) {
  // Without --after, the newest ones.
  const auto after = options.after < 0 ? "" : "&after=" + std::to_string(options.after);
  const Json answer =
      client_of(options).call("GET", "/v1/events?count=" + std::to_string(options.count) + after);
  session.tell(answer, events_text(answer.at("events")));
}

void run_users(Session& session, const InstanceOptions& options) {
  auto client = client_of(options);
  if (options.user.empty()) {
    const Json answer = client.call("GET", "/v1/users");
    return session.tell(answer, users_text(answer.at("users")));
  }
  Json body = Json::object();
  if (!options.role.empty()) body["role"] = options.role;
  if (!options.fingerprint.empty())
    body["spki_sha256"] = options.fingerprint == "none" ? std::string() : options.fingerprint;
  if (options.disable || options.enable) body["disabled"] = options.disable;
  const Wiping wiping(body);
  if (!options.password_file.empty()) {
    const auto password = read_secret_text(options.password_file, "the password");
    body["password"] = std::string(password.begin(), password.end());
  }
  const Json answer = client.call("PUT", "/v1/users/" + path_segment(options.user), body);
  if (tell_pending(session, answer)) return;
  session.tell(answer, options.user + " is " + text_at(answer, "role") +
                           (answer.value("disabled", false) ? ", disabled" : "") + "; ended " +
                           text_at(answer, "ended") + " sessions");
}

void run_backup(Session& session, const InstanceOptions& options) {
  const Json answer = client_of(options).call("POST", "/v1/backup", {{"path", options.output}});
  session.tell(answer, "written to " + text_at(answer, "path") + " on the instance's host");
}

using Run = void (*)(Session&, const InstanceOptions&);

struct Adder {
  CLI::App& parent;
  Session& session;
  std::shared_ptr<InstanceOptions> options;
  CLI::App* add(const char* name, const char* what, const char* example, Run run) const {
    auto* command =
        add_command(parent, name, what, example, [run, &s = session, o = options] { run(s, *o); });
    return command;
  }
};

void add_agent_commands(const Adder& adder) {
  auto& o = *adder.options;
  adder
      .add("agents", "list the agents and their states",
           "  keyagent instance agents\n  keyagent instance agents web1 --json", run_agents)
      ->add_option("AGENT", o.agent, "show only this agent");
  static constexpr std::pair<const char*, const char*> kVerbs[] = {
      {"approve", "trust a pending agent, by its fingerprint"},
      {"reject", "reject a pending agent"},
      {"suspend", "suspend an agent: it gets nothing until it is resumed"},
      {"resume", "resume a suspended agent: it gets its credentials again"},
      {"revoke", "permanently revoke the trust in an agent"}};
  for (const auto& [verb, what] : kVerbs) {
    const std::string name = verb;
    const std::string example =
        "  keyagent instance " + name + " web1" +
        (name == "approve" ? " --fingerprint=KID     # from keyagent enroll or keyagent status"
                           : "");
    auto* command = add_command(
        adder.parent, name, what, example,
        [&s = adder.session, options = adder.options, name] { run_trust(s, *options, name); });
    command->add_option("AGENT", o.agent, "id of the agent")->required();
    command->add_option("--reason", o.reason, "reason for the event log");
    if (name == "approve")
      command->add_option("--fingerprint", o.fingerprint, "kid of the agent's auth key")
          ->required();
    if (name == "reject")
      command->add_option(
          "--fingerprint", o.fingerprint,
          "reject only the request with this auth kid (default: all pending requests for this id)");
  }
  auto* groups = adder.add("groups", "set the groups of an agent",
                           "  keyagent instance groups web1 web production", run_groups);
  groups->add_option("AGENT", o.agent, "id of the agent")->required();
  groups->add_option("GROUP", o.groups, "group names; without any, the agent is in no group");
  auto* token = adder.add("token", "create a single-use enrollment token",
                          "  keyagent instance token --agent web1 -o web1.token", run_token);
  token->add_option("--agent", o.agent, "valid for this agent only; required to replace an agent");
  token->add_option("--group", o.groups, "group of the agent; repeatable");
  token->add_flag("--inherit", o.inherit,
                  "the agent that replaces --agent inherits its groups and credentials");
  token->add_option("--hours", o.hours, "validity in hours, at most 24")->check(CLI::Range(1, 24));
  token->add_option("-o,--output", o.output, "output file (0600); - is standard output");
}

void add_rekey_commands(const Adder& adder) {
  auto& o = *adder.options;
  auto* rekey = adder.add("rekey", "order rekeys of agents, of groups or of all agents",
                          "  keyagent instance rekey web1 --wait\n"
                          "  keyagent instance rekey --all --canary 5 --parallel 20",
                          run_rekey);
  rekey->add_option("AGENT", o.agents, "ids of agents");
  rekey->add_option("--group", o.groups, "all agents of this group; repeatable");
  rekey->add_flag("--all", o.all, "all trusted agents");
  rekey->add_option("--key", o.key, "key to replace: transport or auth")
      ->check(CLI::IsMember({"transport", "auth"}));
  rekey->add_option("--canary", o.canary,
                    "percentage of agents to rekey first; a failure among them halts the rest");
  rekey->add_option("--parallel", o.parallel, "maximum number of concurrent rekeys");
  rekey->add_flag("--wait", o.wait, "wait until all have ended; exit status 7 if one failed");
  rekey->add_option("--timeout", o.timeout, "seconds to wait; 0: no limit");
  auto* rekeys = adder.add("rekeys", "show ordered rekeys and their progress",
                           "  keyagent instance rekeys 8f1c…", run_rekeys);
  rekeys->add_option("BATCH", o.batch,
                     "show only these, by the id that `rekey` printed (default: all)");
  rekeys->add_flag("--cancel", o.cancel,
                   "cancel the orders of the batch that no agent has started");
}

}  // namespace

std::string text_at(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return "-";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

InstanceClient client_of(const InstanceOptions& options) {
  return InstanceClient(load_instance_profile(instance_profile_path(options.profile)));
}

void add_instance_commands(CLI::App& app, Session& session) {
  auto* instance =
      app.add_subcommand("instance", "manage an instance: agents, credentials, rekeys, tasks");
  instance->require_subcommand(1);
  instance->footer(
      "Examples:\n  keyagent instance login https://keys.example.org:8443 --user alice "
      "--fingerprint=FINGERPRINT\n  keyagent instance agents");
  const auto options = std::make_shared<InstanceOptions>();
  auto& o = *options;
  instance->add_option("--profile", o.profile,
                       "file of the login (default: ~/.config/keyagent/instance.json)");
  const Adder adder{*instance, session, options};
  auto* login = adder.add("login", "log in; the session is kept in a private file",
                          "  keyagent instance login https://keys.example.org:8443 --user alice "
                          "--fingerprint=FINGERPRINT",
                          run_login);
  login->add_option("URL", o.url, "https://NAME:PORT of the instance (listen.api)")->required();
  login->add_option("--user", o.user, "name of the user at the instance")->required();
  login
      ->add_option("--fingerprint", o.fingerprint,
                   "fingerprint of the instance's CA, as keyinstanced prints it")
      ->required();
  login->add_option("--password-file", o.password_file,
                    "password file, mode 0400 (default: prompt)");
  auto* logout =
      adder.add("logout", "log out",
                "  keyagent instance logout\n  keyagent instance logout --all\n"
                "  keyagent instance logout --user bob        # an admin ends all sessions of bob",
                run_logout);
  auto* everywhere = logout->add_flag("--all", o.all, "end all of your sessions, on every host");
  logout->add_option("--user", o.user, "end all sessions of this user (admin)")
      ->excludes(everywhere);
  adder.add("status", "show the state of the instance", "  keyagent instance status", run_status);
  add_agent_commands(adder);
  add_rekey_commands(adder);
  add_instance_checkpoint_command(*instance, session, options);
  add_instance_certificate_commands(*instance, session, options);
  add_instance_credential_commands(*instance, session, options);
  add_instance_task_commands(*instance, session, options);
  add_instance_specification_commands(*instance, session, options);
  add_instance_record_commands(*instance, session, options);
  add_instance_exchange_commands(*instance, session, options);
  add_instance_decision_commands(*instance, session, options);
  auto* events = adder.add("events", "list the newest audit events, or those after a number",
                           "  keyagent instance events --count 20\n"
                           "  keyagent instance events --after 1000",
                           run_events);
  events
      ->add_option("--after", o.after,
                   "the first events after this number (0: from the first) instead of the newest")
      ->check(CLI::NonNegativeNumber);
  events->add_option("--count", o.count, "maximum number of events, at most 1000 (default: 100)")
      ->check(CLI::Range(1, 1000));
  auto* users = adder.add(
      "users", "list users, or add or change a user; a change ends all of the user's sessions",
      "  keyagent instance users\n"
      "  keyagent instance users bob --role operator --password-file bob.pw\n"
      "  keyagent instance users bob --disable",
      run_users);
  users->add_option("NAME", o.user, "the user to add or change (default: list all)");
  users->add_option("--role", o.role, "admin, cryptographic-manager, operator or auditor")
      ->check(CLI::IsMember({"admin", "cryptographic-manager", "operator", "auditor"}));
  users->add_option("--password-file", o.password_file,
                    "password file: at least 12 characters, mode 0400");
  users->add_option(
      "--certificate-key", o.fingerprint,
      "SHA-256 of the public key of a client certificate (base64url); none removes it");
  auto* disable = users->add_flag("--disable", o.disable, "disable the user");
  users->add_flag("--enable", o.enable, "enable a disabled user")->excludes(disable);
  adder
      .add("restored", "show whether the store was restored from a backup, or accept it",
           "  keyagent instance restored\n  keyagent instance restored --accept", run_restored)
      ->add_flag(
          "--accept", o.accept,
          "accept the restored store: agents are served again (repeat the revocations first)");
  adder
      .add("backup", "copy the instance's store (SQLite) to a new file on its host",
           "  keyagent instance backup -o /var/backups/instance.db", run_backup)
      ->add_option("-o,--output", o.output, "absolute path on that host; the file must not exist")
      ->required();
}

}  // namespace keyagent::cli
