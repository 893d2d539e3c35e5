// SPDX-License-Identifier: Apache-2.0
// keyagent instance checkpoint: the newest checkpoint of an agent's audit log, as the instance
// keeps it.

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

void run_checkpoint(Session& session, const InstanceOptions& options) {
  if (options.accept) return run_accept(session, options);
  const Json answer =
      client_of(options).call("GET", "/v1/agents/" + path_segment(options.agent) + "/checkpoint");
  const Json& kept = answer.at("checkpoint");
  if (kept.is_null())
    throw Error(Code::kUsage, "the instance keeps no checkpoint of " + options.agent +
                                  ": the agent sends its newest one with its heartbeats");
  const auto text = kept.dump() + "\n";
  if (options.output != "-") write_output(options.output, as_bytes(text));
  session.tell(answer, text_at(kept, "size") + " records, hash " + text_at(kept, "hash") +
                           ", signed by " + text_at(kept, "kid") + " at " + text_at(kept, "time") +
                           "\n");
}

}  // namespace

void add_instance_checkpoint_command(CLI::App& instance, Session& session,
                                     const std::shared_ptr<InstanceOptions>& options) {
  auto& o = *options;
  auto* command =
      add_command(instance, "checkpoint", "the newest checkpoint of an agent's audit log",
                  "  keyagent instance checkpoint web1 -o web1.json\n"
                  "  keyagent audit verify --folder DIR --checkpoint web1.json --public audit.pem\n"
                  "  keyagent instance checkpoint web1 --accept --reason 'disk replaced'",
                  [&session, options] { run_checkpoint(session, *options); });
  command->add_option("AGENT", o.agent)->required();
  command->add_option("-o,--output", o.output, "a file for audit verify --checkpoint");
  command->add_flag("--accept", o.accept,
                    "accept the log as it is, after it was restored or restarted on purpose");
  command->add_option("--reason", o.reason, "for the record (with --accept)");
}

}  // namespace keyagent::cli
