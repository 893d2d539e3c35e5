// SPDX-License-Identifier: Apache-2.0
// keyagent instance checkpoint: the checkpoints of an agent's audit log that the instance keeps:
// the newest and the first of each day.

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/cmd_instance.h"

namespace keyagent::cli {
namespace {

void run_accept(Session& session, const InstanceOptions& options) {
  const Json answer = client_of(options).call(
      "POST", "/v1/agents/" + path_segment(options.agent) + "/checkpoint/accept",
      {{"reason", options.reason}});
  session.tell(answer, "the audit log of " + options.agent +
                           " is accepted as it is; its next checkpoint is kept");
}

// CLI11: an error text, or nothing.
std::string is_day(const std::string& text) {
  const std::string_view form = "0000-00-00";
  bool fits = text.size() == form.size();
  for (std::size_t i = 0; fits && i < form.size(); ++i)
    fits = form[i] == '-' ? text[i] == '-' : text[i] >= '0' && text[i] <= '9';
  return fits ? "" : "must be a day such as 2026-11-28";
}

Json get_checkpoint(const InstanceOptions& options, const std::string& what) {
  return client_of(options).call("GET", "/v1/agents/" + path_segment(options.agent) + "/" + what);
}

std::string checkpoint_line(const Json& checkpoint) {
  // The agent's host chose them.
  const auto text = [&](const char* name) { return escape_controls(text_at(checkpoint, name)); };
  return text("size") + " records, hash " + text("hash") + ", signed by " + text("kid") + " at " +
         text("time") + "\n";
}

void tell_checkpoint(Session& session, const InstanceOptions& options, const Json& answer) {
  const Json& kept = answer.at("checkpoint");
  const auto text = kept.dump() + "\n";
  if (options.output != "-") write_output(options.output, as_bytes(text));
  session.tell(answer, checkpoint_line(kept));
}

void run_list_days(Session& session, const InstanceOptions& options) {
  const Json answer = get_checkpoint(options, "checkpoint/days");
  std::string text;
  for (const auto& each : answer.at("days"))
    text += text_at(each, "day") + "  " + checkpoint_line(each.at("checkpoint"));
  session.tell(answer, text.empty() ? "none\n" : text);
}

void run_show_day(Session& session, const InstanceOptions& options, const std::string& day) {
  const Json answer = get_checkpoint(options, "checkpoint/days");
  for (const auto& each : answer.at("days"))
    if (text_at(each, "day") == day) return tell_checkpoint(session, options, each);
  throw Error(Code::kUsage, "the instance keeps no checkpoint of " + options.agent + " of " + day +
                                ": keyagent instance checkpoint " + options.agent +
                                " --list shows the days");
}

void run_checkpoint(Session& session, const InstanceOptions& options) {
  if (options.accept) return run_accept(session, options);
  const Json answer = get_checkpoint(options, "checkpoint");
  if (answer.at("checkpoint").is_null())
    throw Error(Code::kUsage, "the instance keeps no checkpoint of " + options.agent +
                                  ": the agent sends its newest one with its heartbeats");
  tell_checkpoint(session, options, answer);
}

}  // namespace

void add_instance_checkpoint_command(CLI::App& instance, Session& session,
                                     const std::shared_ptr<InstanceOptions>& options) {
  auto& o = *options;
  struct Days {
    bool list = false;
    std::string day;
    CLI::Option* option = nullptr;
  };
  const auto days = std::make_shared<Days>();
  auto* command =
      add_command(instance, "checkpoint",
                  "the newest checkpoint of an agent's audit log, or the first of a day",
                  "  keyagent instance checkpoint web1 -o web1.json\n"
                  "  keyagent instance checkpoint web1 --list\n"
                  "  keyagent instance checkpoint web1 --day 2026-11-28 -o web1.json\n"
                  "  keyagent audit verify --folder DIR --checkpoint web1.json --public audit.pem\n"
                  "  keyagent instance checkpoint web1 --accept --reason 'disk replaced'",
                  [&session, options, days] {
                    if (days->list) return run_list_days(session, *options);
                    if (days->option->count() > 0)
                      return run_show_day(session, *options, days->day);
                    run_checkpoint(session, *options);
                  });
  command->add_option("AGENT", o.agent, "id of the agent")->required();
  auto* output =
      command->add_option("-o,--output", o.output, "a file for audit verify --checkpoint");
  auto* list = command
                   ->add_flag("--list", days->list,
                              "list the first checkpoint of each of the last 30 days that have one")
                   ->excludes(output);
  auto* day =
      command
          ->add_option("--day", days->day,
                       "the first checkpoint of this day (UTC), which no later one replaces")
          ->type_name("YYYY-MM-DD")
          ->check(is_day)
          ->excludes(list);
  days->option = day;
  auto* accept =
      command
          ->add_flag("--accept", o.accept,
                     "accept the log as it is, after it was restored or restarted on purpose")
          ->excludes(output)
          ->excludes(list)
          ->excludes(day);
  command->add_option("--reason", o.reason, "for the record (with --accept)")->needs(accept);
}

}  // namespace keyagent::cli
