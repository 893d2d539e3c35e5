// SPDX-License-Identifier: Apache-2.0
// Tasks of the instance, for workers: the name of a handler stands where other actions have a
// key's.

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

void resolve_handler(Call& call, const std::string& handler) {
  if (handler.empty()) throw Error(Code::kUsage, "no handler named");
  call.which = call.query.key = handler;
}

}  // namespace

void resolve_task_take(Call& call) {
  resolve_handler(call, call.request.task_take().handler());
}

// A worker asks each second: only a task that it gets is recorded.
void run_task_take(Call& call) {
  auto& reply = *call.response.mutable_task_take();
  call.state.services.link.task_take(call.principal.uid, call.request.task_take(), reply);
  if (!reply.has_task()) return;
  const auto& task = reply.task();
  call.detail =
      "task " + escape_controls(task.id()) + ", attempt " + std::to_string(task.attempt()) +
      (task.credential().empty() ? "" : ", credential " + escape_controls(task.credential()));
}

void resolve_task_keep(Call& call) {
  resolve_handler(call, call.request.task_keep().handler());
}

void run_task_keep(Call& call) {
  auto& reply = *call.response.mutable_task_keep();
  call.state.services.link.task_keep(call.principal.uid, call.request.task_keep(), reply);
}

// The task names the credential; the policy decides whether the handler may have it.
void resolve_task_credential(Call& call) {
  const auto& request = call.request.task_credential();
  resolve_handler(call, request.handler());
  call.query.credential = call.state.services.link.task_credential(call.principal.uid, request);
}

void run_task_credential(Call& call) {
  auto& reply = *call.response.mutable_task_credential();
  call.state.services.link.credential(call.query.credential, reply);
  call.detail = "credential " + escape_controls(call.query.credential) + " for task " +
                escape_controls(call.request.task_credential().id()) + ", opened with " +
                reply.credential().kid();
}

void resolve_task_end(Call& call) {
  resolve_handler(call, call.request.task_end().handler());
}

void run_task_end(Call& call) {
  const auto& request = call.request.task_end();
  call.response.mutable_task_end();
  call.state.services.link.task_end(call.principal.uid, request);
  call.detail = "task " + escape_controls(request.id()) + ", " + request.outcome();
}

void run_task_list(Call& call) {
  auto& reply = *call.response.mutable_task_list();
  call.state.services.link.tasks(reply);
  if (call.may(policy::Action::kAdmin, {}, {}) || call.may(policy::Action::kAudit, {}, {})) return;
  auto& tasks = *reply.mutable_tasks();
  const int before = tasks.size();
  const auto uid = call.principal.uid;
  tasks.erase(std::remove_if(tasks.begin(), tasks.end(),
                             [uid](const auto& task) { return task.uid() != uid; }),
              tasks.end());
  reply.set_others(static_cast<std::uint32_t>(before - tasks.size()));
}

}  // namespace keyagent::gate
