// SPDX-License-Identifier: Apache-2.0
// keyagent instance credential: sealed to agents, by the instance or, blind, right here.

#include "agent/base/error.h"
#include "agent/base/wiping.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/table.h"
#include "agent/envelope/envelope.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kMaxValue = 64 * 1024;

std::string sealed_text(const Json& credential) {
  std::size_t sealed = 0, unbound = 0;
  for (const auto& copy : credential.at("copies")) {
    if (copy.at("version").is_null()) continue;
    ++sealed;
    unbound += copy.value("bound", false) ? 0 : 1;
  }
  return std::to_string(sealed) + " of " + std::to_string(credential.at("copies").size()) +
         " keys" + (unbound == 0 ? "" : ", " + std::to_string(unbound) + " unbound");
}

std::string credentials_text(const Json& list) {
  Table table({"NAME", "TYPE", "VERSION", "SEALED BY", "SEALED TO"});
  for (const auto& each : list)
    table.add({text_at(each, "name"), text_at(each, "type"), text_at(each, "version"),
               each.value("blind", false) ? "author (blind)" : "instance", sealed_text(each)});
  return table.text_or("none\n");
}

// Names that no agent has now: a misspelled one would stay without the credential, silently.
void note_unknown(Session& session, const Json& answer) {
  static constexpr std::pair<const char*, const char*> kKinds[] = {
      {"unknown_agents", "no agent has the id "}, {"unknown_groups", "no agent is in the group "}};
  for (const auto& [member, text] : kKinds) {
    for (const auto& each : answer.value(member, Json::array()))
      session.note("note: " + std::string(text) + each.get<std::string>() +
                   " now; an agent gets the credential as soon as it is enrolled there");
  }
}

void run_credential_list(Session& session, const InstanceOptions& options) {
  const auto target = options.name.empty() ? std::string("/v1/credentials")
                                           : "/v1/credentials/" + path_segment(options.name);
  const Json answer = client_of(options).call("GET", target);
  session.tell(answer, credentials_text(answer.at("credentials")));
}

// Seals the value here, to the keys that the instance trusts, so that the instance never has the
// plaintext. Each envelope is bound to its use.
Json sealed_for(InstanceClient& client, const std::string& name,
                const std::vector<std::string>& agents, const SecretBytes& value) {
  if (agents.empty()) throw Error(Code::kUsage, "--blind requires --agent: the agents to seal to");
  const Json next = client.call("GET", "/v1/credentials/" + path_segment(name) + "/next");
  Json out = Json::array();
  for (const auto& agent : agents) {
    auto key = envelope::from_jwk(
        client.call_text("GET", "/v1/agents/" + path_segment(agent) + "/key"), Purpose::kTransport);
    const envelope::Binding binding{next.at("instance"), name, next.at("version"), agent};
    const Bytes sealed =
        envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm, value, binding);
    out.push_back(
        {{"agent", agent}, {"kid", key.kid.text()}, {"envelope", std::string(as_text(sealed))}});
  }
  return out;
}

void run_put(Session& session, const InstanceOptions& options) {
  const SecretBytes value = read_input(options.from, kMaxValue);
  Json parsed = Json::parse(value.begin(), value.end(), nullptr, false);
  const Wiping wiping_parsed(parsed);
  if (!parsed.is_object())
    throw Error(
        Code::kUsage,
        options.from + " is not a JSON object such as {\"username\":\"…\",\"password\":\"…\"}");
  auto client = client_of(options);
  Json body{{"type", options.type}};
  const Wiping wiping_body(body);
  if (!options.agents.empty()) body["agents"] = options.agents;
  if (!options.groups.empty()) body["groups"] = options.groups;
  if (options.blind) {
    body["sealed"] = sealed_for(client, options.name, options.agents, value);
  } else {
    body["value"] = parsed;
  }
  const Json answer = client.call("PUT", "/v1/credentials/" + path_segment(options.name), body);
  note_unknown(session, answer);
  session.tell(answer, options.name + " has version " + answer.at("version").dump());
}

void run_reseal(Session& session, const InstanceOptions& options) {
  const Json answer = client_of(options).call("POST", "/v1/credentials/reseal", Json::object());
  std::string text = answer.at("values").dump() + " credentials are bound to their context\n";
  for (const auto& each : answer.at("blind"))
    text += "  blind, must be sealed again by its author: " + each.get<std::string>() + "\n";
  for (const auto& each : answer.at("unreadable"))
    text += "  cannot be read, see the instance's log: " + each.get<std::string>() + "\n";
  session.tell(answer, text);
  if (!answer.at("blind").empty() || !answer.at("unreadable").empty())
    session.exit_status = exit_code(Code::kPartial);
}

void run_assign(Session& session, const InstanceOptions& options) {
  const Json answer =
      client_of(options).call("POST", "/v1/credentials/" + path_segment(options.name) + "/assign",
                              {{"agents", options.agents}, {"groups", options.groups}});
  note_unknown(session, answer);
  session.tell(answer, credentials_text(answer.at("credentials")));
}

void run_remove(Session& session, const InstanceOptions& options) {
  const Json answer =
      client_of(options).call("DELETE", "/v1/credentials/" + path_segment(options.name));
  if (tell_pending(session, answer)) return;
  session.tell(Json::object(), options.name + " is removed, with all its sealed copies");
}

}  // namespace

void add_instance_credential_commands(CLI::App& instance, Session& session,
                                      const std::shared_ptr<InstanceOptions>& options) {
  auto* credential = instance.add_subcommand("credential", "manage the credentials of agents");
  credential->require_subcommand(1);
  credential->footer(
      "Examples:\n  keyagent instance credential put backup --type password --from backup.json "
      "--agent web1\n  keyagent instance credential list");
  auto& o = *options;
  const auto with = [&session, options](void (*run)(Session&, const InstanceOptions&)) {
    return [run, &session, options] { run(session, *options); };
  };
  add_command(*credential, "list", "list names, types, and the number of keys each is sealed to",
              "  keyagent instance credential list", with(run_credential_list))
      ->add_option("NAME", o.name, "show only this credential");
  auto* put = add_command(
      *credential, "put", "create a credential, or a new version of it",
      "  keyagent instance credential put backup --type password --from backup.json --agent web1\n"
      "  keyagent instance credential put backup --from - --blind --agent web1   # sealed here",
      with(run_put));
  put->add_option("NAME", o.name, "name of the credential: a-z 0-9 . _ -")->required();
  put->add_option("--type", o.type, "password, ssh-key, api-token, certificate or json")
      ->check(CLI::IsMember({"password", "ssh-key", "api-token", "certificate", "json"}));
  put->add_option("--from", o.from, "file with a JSON object; - is standard input")->required();
  put->add_option("--agent", o.agents, "agent that gets it; repeatable");
  put->add_option("--group", o.groups, "all agents of this group; repeatable");
  put->add_flag("--blind", o.blind, "seal it locally: the instance never sees it");
  add_command(
      *credential, "reseal",
      "reseal copies that are not bound to credential, version and agent (\"unbound\" in list)",
      "  keyagent instance credential reseal --all", with(run_reseal))
      ->add_flag("--all", o.all, "all credentials: the default, and the only choice");
  auto* assign =
      add_command(*credential, "assign", "set the agents that get it",
                  "  keyagent instance credential assign backup --group web", with(run_assign));
  assign->add_option("NAME", o.name, "name of the credential")->required();
  assign->add_option("--agent", o.agents, "id of an agent; repeatable");
  assign->add_option("--group", o.groups, "all agents of this group; repeatable");
  add_command(*credential, "remove", "remove a credential and its sealed copies",
              "  keyagent instance credential remove backup", with(run_remove))
      ->add_option("NAME", o.name, "name of the credential")
      ->required();
}

}  // namespace keyagent::cli
