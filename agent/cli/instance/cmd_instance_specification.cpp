// SPDX-License-Identifier: Apache-2.0
// keyagent instance specification: kinds of data, who may do what with them, and their keys.

#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/poll_until_timeout.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kMaxAccess = 256 * 1024;

struct SpecificationOptions {
  std::string name, access, use, user;
  bool wait = false, exchangeable = false, local = false;
  long timeout = 0;
};

std::string key_line(const Json& key) {
  std::string out = "  " + text_at(key, "kid") + "  " + text_at(key, "state") + "  " +
                    text_at(key, "records") + " records";
  if (key.contains("next_rekey") && key["next_rekey"].is_string())
    out += "  since " + text_at(key, "activated") + ", next rekey " + text_at(key, "next_rekey");
  if (key.contains("origin") && key["origin"].is_string()) out += "  " + text_at(key, "origin");
  if (key.contains("source")) {
    const Json source = key["source"].is_object() ? key["source"] : Json::object();
    out += "  of " + text_at(source, "instance") + ", identity " + text_at(source, "identity");
  }
  const auto finding = text_at(key, "finding");
  return out + (finding.empty() || finding == "-" ? "" : "  " + finding) + "\n";
}

std::string rule_line(const Json& rule) {
  std::string out = "  " + text_at(rule, "rule") + ": " + text_at(rule, "effect");
  for (const char* list : {"uses", "roles", "users"}) {
    if (rule.at(list).empty()) continue;
    out += std::string("  ") + list;
    for (const auto& each : rule.at(list)) out += " " + each.get<std::string>();
  }
  return out + "\n";
}

std::string specification_details(const Json& specification) {
  std::string out = text_at(specification, "name") + "  key " + text_at(specification, "key") +
                    "  active " + text_at(specification, "active") + "\n";
  for (const auto& each : specification.at("keys")) out += key_line(each);
  if (specification.at("access").empty()) out += "  no user has access\n";
  for (const auto& each : specification.at("access")) out += rule_line(each);
  const auto& rekey = specification.at("rekey");
  if (rekey.is_object())
    out += "  rekey: " + text_at(rekey, "step") + "  " + text_at(rekey, "old_kid") + " -> " +
           text_at(rekey, "new_kid") + "  " + text_at(rekey, "waits_for") + "\n";
  return out;
}

void tell_all(Session& session, const Json& answer) {
  if (tell_pending(session, answer)) return;
  std::string text;
  for (const auto& each : answer.at("specifications")) text += specification_details(each);
  session.tell(answer, text.empty() ? "none\n" : text);
}

Json read_rules(const std::string& file) {
  const SecretBytes text = read_input(file, kMaxAccess);
  Json parsed = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!parsed.is_array())
    throw Error(Code::kUsage, file +
                                  " is not a JSON list such as "
                                  "[{\"rule\":\"app\",\"effect\":\"allow\",\"uses\":[\"encrypt\","
                                  "\"decrypt\"],\"users\":[\"app\"]}]");
  return parsed;
}

std::string specification_path(const std::string& name, const char* verb = "") {
  return "/v1/specifications/" + path_segment(name) + verb;
}

using RunOnSpecification = void (*)(Session&, const InstanceOptions&, const SpecificationOptions&);

void run_create(Session& session, const InstanceOptions& instance,
                const SpecificationOptions& options) {
  Json body{{"name", options.name}, {"exchangeable", options.exchangeable}};
  if (!options.access.empty()) body["access"] = read_rules(options.access);
  tell_all(session, client_of(instance).call("POST", "/v1/specifications", body));
}

void run_list(Session& session, const InstanceOptions& instance, const SpecificationOptions&) {
  tell_all(session, client_of(instance).call("GET", "/v1/specifications"));
}

void run_show(Session& session, const InstanceOptions& instance,
              const SpecificationOptions& options) {
  tell_all(session, client_of(instance).call("GET", specification_path(options.name)));
}

void run_access(Session& session, const InstanceOptions& instance,
                const SpecificationOptions& options) {
  tell_all(session, client_of(instance).call("PUT", specification_path(options.name, "/access"),
                                             {{"access", read_rules(options.access)}}));
}

void run_why(Session& session, const InstanceOptions& instance,
             const SpecificationOptions& options) {
  const Json answer = client_of(instance).call(
      "GET", specification_path(options.name, "/why?use=") + path_segment(options.use) +
                 "&user=" + path_segment(options.user));
  session.tell(answer, text_at(answer, "user") + " (" + text_at(answer, "role") + ") may " +
                           (answer.at("allowed").get<bool>() ? "" : "not ") + options.use +
                           (answer.at("tracked").get<bool>() ? ", and it is recorded" : "") +
                           ": rule " + text_at(answer, "rule") + "\n");
}

void run_rekey(Session& session, const InstanceOptions& instance,
               const SpecificationOptions& options) {
  auto client = client_of(instance);
  Json answer = client.call("POST", specification_path(options.name, "/rekey"));
  const auto old_kid = text_at(answer, "old_kid");
  const PollUntilTimeout patience(options.timeout);
  while (options.wait) {
    const Json now =
        client.call("GET", specification_path(options.name)).at("specifications").at(0);
    answer["active"] = now.at("active");
    if (text_at(now, "active") != old_kid) break;
    if (now.at("rekey").is_null())
      throw Error(Code::kPartial, "the rekey was aborted; the active key stays " + old_kid);
    patience.rest("the rekey continues: keyagent instance specification show " + options.name);
  }
  session.tell(answer,
               answer.contains("active")
                   ? options.name + " is now encrypted with " + text_at(answer, "active") +
                         "; re-encrypt existing records with: keyagent instance reencrypt start " +
                         options.name + "\n"
                   : "the rekey of " + old_kid + " has started\n");
}

}  // namespace

void add_instance_specification_commands(CLI::App& instance, Session& session,
                                         const std::shared_ptr<InstanceOptions>& options) {
  auto* group = instance.add_subcommand("specification",
                                        "manage kinds of data, their keys and their access rules");
  group->require_subcommand(1);
  const auto own = std::make_shared<SpecificationOptions>();
  auto& o = *own;
  const auto add = [&](const char* name, const char* what, const char* example,
                       RunOnSpecification run) {
    auto* command = add_command(*group, name, what, example,
                                [run, &session, options, own] { run(session, *options, *own); });
    return command;
  };
  auto* create =
      add("create", "create a specification with its own key, or a key for one that has none",
          "  keyagent instance specification create payroll --access payroll.json", run_create);
  create->add_option("NAME", o.name, "name of the specification")->required();
  create->add_option("--access", o.access,
                     "file with a JSON list of access rules; absent: no user has access");
  auto* exchangeable = create->add_flag(
      "--exchangeable", o.exchangeable,
      "its keys may leave the token, wrapped for instances that the agent's policy names");
  create->add_flag("--local", o.local, "its keys never leave the token (default)")
      ->excludes(exchangeable);
  add("list", "list all specifications", "  keyagent instance specification list", run_list);
  add("show", "show its keys, the number of records per key, and its access rules",
      "  keyagent instance specification show payroll", run_show)
      ->add_option("NAME", o.name, "name of the specification")
      ->required();
  auto* access =
      add("access", "set the access rules",
          "  keyagent instance specification access payroll --from payroll.json", run_access);
  access->add_option("NAME", o.name, "name of the specification")->required();
  access->add_option("--from", o.access, "file with a JSON list of rules; - is standard input")
      ->required();
  auto* why = add("why", "show whether a user has access, and the rule that decides",
                  "  keyagent instance specification why payroll decrypt --user bob", run_why);
  why->add_option("NAME", o.name, "name of the specification")->required();
  why->add_option("USE", o.use, "encrypt, decrypt or exchange")
      ->required()
      ->check(CLI::IsMember({"encrypt", "decrypt", "exchange"}));
  why->add_option("--user", o.user, "another user than you");
  auto* rekey = add("rekey", "create a new key for new records; the old key still opens",
                    "  keyagent instance specification rekey payroll --wait", run_rekey);
  rekey->add_option("NAME", o.name, "name of the specification")->required();
  rekey->add_flag("--wait", o.wait, "wait until the new key is active");
  rekey->add_option("--timeout", o.timeout, "seconds to wait; 0: no limit");
}

}  // namespace keyagent::cli
