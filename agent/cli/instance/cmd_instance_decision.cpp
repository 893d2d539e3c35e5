// SPDX-License-Identifier: Apache-2.0
// keyagent instance decision: what one person asked for and another one decides.

#include "agent/base/error.h"
#include "agent/base/error_line.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

struct DecisionOptions {
  std::vector<std::string> ids;
  std::string id, state = "pending", reason;
};

std::string decision_line(const Json& decision) {
  const auto text = text_at(decision, "text"), by = text_at(decision, "decided_by");
  return text_at(decision, "id") + "  " + text_at(decision, "state") + "  " +
         text_at(decision, "kind") + "  " + text_at(decision, "subject") + "  requested by " +
         text_at(decision, "requested_by") + (by.empty() ? "" : ", decided by " + by) +
         ", expires " + text_at(decision, "expires") + (text.empty() ? "" : "  " + text) + "\n";
}

std::string target_of(const std::string& id, const std::string& verb = {}) {
  return "/v1/decisions/" + path_segment(id) + verb;
}

void run_list(Session& session, const InstanceOptions& instance, const DecisionOptions& options) {
  const auto state = options.state == "all" ? std::string() : options.state;
  const Json answer = client_of(instance).call(
      "GET", "/v1/decisions?count=1000&state=" + (state.empty() ? state : path_segment(state)));
  Table table({"ID", "STATE", "KIND", "SUBJECT", "REQUESTED BY", "DECIDED BY", "EXPIRES", "TEXT"});
  for (const auto& each : answer.at("decisions"))
    table.add({text_at(each, "id"), text_at(each, "state"), text_at(each, "kind"),
               text_at(each, "subject"), text_at(each, "requested_by"), text_at(each, "decided_by"),
               text_at(each, "expires"), text_at(each, "text")});
  session.tell(answer, table.text_or("none\n"));
}

void run_show(Session& session, const InstanceOptions& instance, const DecisionOptions& options) {
  const Json answer = client_of(instance).call("GET", target_of(options.id));
  const Json& decision = answer.at("decision");
  session.tell(answer, decision_line(decision) + decision.at("request").dump(2) + "\n");
}

// One after the other; one that fails does not stop the rest.
void run_each(Session& session, const InstanceOptions& instance, const DecisionOptions& options,
              const char* verb) {
  auto client = client_of(instance);
  Json done = Json::array();
  std::string text;
  for (const auto& id : options.ids) {
    try {
      const Json answer = client.call("POST", target_of(id, verb), {{"reason", options.reason}});
      done.push_back(answer.at("decision"));
      text += decision_line(done.back());
    } catch (const Error& error) {
      if (options.ids.size() == 1 || layer_of(error.code()) == Layer::kPeer) throw;
      done.push_back({{"id", id}, {"error", error.what()}, {"code", code_name(error.code())}});
      text += id + "  " + error_line(code_name(error.code()), error.what()) + "\n";
      session.exit_status = exit_code(Code::kPartial);
    }
  }
  session.tell({{"decisions", done}}, text);
}

}  // namespace

bool tell_pending(Session& session, const Json& answer) {
  const auto found = answer.find("decision");
  if (found == answer.end() || answer.contains("id")) return false;
  const auto id = text_at(*found, "id");
  session.tell(answer, decision_line(*found) + "needs approval by another person before " +
                           text_at(*found, "expires") + ": keyagent instance decision approve " +
                           id + "\n");
  return true;
}

void add_instance_decision_commands(CLI::App& instance, Session& session,
                                    const std::shared_ptr<InstanceOptions>& options) {
  auto* decision = instance.add_subcommand(
      "decision", "changes that need a second person: list, approve or reject them");
  decision->require_subcommand(1);
  const auto own = std::make_shared<DecisionOptions>();
  auto& o = *own;
  add_command(*decision, "list", "list requests that need a second person",
              "  keyagent instance decision list\n"
              "  keyagent instance decision list --state all --json",
              [&session, options, own] { run_list(session, *options, *own); })
      ->add_option("--state", o.state, "pending, approved, rejected, expired, failed or all")
      ->check(CLI::IsMember({"pending", "approved", "rejected", "expired", "failed", "all"}));
  add_command(*decision, "show", "show one request and its effect",
              "  keyagent instance decision show 5f0c…",
              [&session, options, own] { run_show(session, *options, *own); })
      ->add_option("ID", o.id, "id of the request")
      ->required();
  add_command(*decision, "approve", "approve and carry out a request of another person",
              "  keyagent instance decision approve 5f0c… 77ab…",
              [&session, options, own] { run_each(session, *options, *own, "/approve"); })
      ->add_option("ID", o.ids, "request ids")
      ->required();
  auto* reject =
      add_command(*decision, "reject", "reject a request, or withdraw your own",
                  "  keyagent instance decision reject 5f0c… --reason 'not this peer'",
                  [&session, options, own] { run_each(session, *options, *own, "/reject"); });
  reject->add_option("ID", o.ids, "request ids")->required();
  reject->add_option("--reason", o.reason, "reason for the event log");
}

}  // namespace keyagent::cli
