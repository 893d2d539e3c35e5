// SPDX-License-Identifier: Apache-2.0
// keyagent task

#include "agent/cli/cli.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

void run_task_list(Session& session) {
  wire::Request request;
  request.mutable_task_list();
  const auto response = session.call(request);
  const auto& reply = response.task_list();
  Json list = Json::array();
  Table table({"ID", "HANDLER", "STAGE", "OUTCOME", "CHANGED", "TEXT"});
  for (const auto& each : reply.tasks()) {
    list.push_back({{"id", each.id()},
                    {"handler", each.handler()},
                    {"stage", each.stage()},
                    {"outcome", each.outcome()},
                    {"text", each.text()},
                    {"attempt", each.attempt()},
                    {"uid", each.uid()},
                    {"changed", each.changed()},
                    {"lease_ms", each.lease_ms()}});
    table.add(
        {each.id(), each.handler(), each.stage(), each.outcome(), each.changed(), each.text()});
  }
  const auto text = table.text_or("") + std::to_string(reply.running()) + " run, " +
                    std::to_string(reply.waiting()) + " outcomes not delivered to the instance";
  session.tell({{"tasks", list}, {"running", reply.running()}, {"waiting", reply.waiting()}}, text);
}

}  // namespace

void add_task_commands(CLI::App& app, Session& session) {
  auto* task = app.add_subcommand("task", "list tasks that this host has taken from the instance");
  task->require_subcommand(1);
  task->footer("Examples:\n  keyagent task list");
  add_command(
      *task, "list",
      "list running tasks, tasks whose outcome is not delivered yet, and those of the last day",
      "  keyagent task list\n  keyagent --json task list | jq .waiting",
      [&session] { run_task_list(session); });
}

}  // namespace keyagent::cli
