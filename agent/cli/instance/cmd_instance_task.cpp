// SPDX-License-Identifier: Apache-2.0
// keyagent instance task: work for the handlers of agents' hosts.

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/cli/instance/cmd_instance.h"
#include "agent/cli/poll_until_timeout.h"
#include "agent/cli/table.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kMaxInput = 64 * 1024, kPage = 1000;

struct TaskOptions {
  std::string id, handler, agent, group, input, credential, at, key, state, what;
  long priority = 0, attempts = 5, seconds = 0, timeout = 0;
  bool repeatable = false, wait = false;
};

std::string attempts_of(const Json& task) {
  return "attempt " + text_at(task, "attempt") + " of " + text_at(task, "attempts");
}

std::string task_line(const Json& task) {
  const auto text = text_at(task, "text"), agent = text_at(task, "agent");
  return text_at(task, "id") + "  " + text_at(task, "state") +
         (task.value("cancelling", false) ? " (cancelling)" : "") + "  " +
         text_at(task, "handler") + "  " + text_at(task, "target") +
         (agent.empty() ? "" : " -> " + agent) + "  " + attempts_of(task) + "  submitted " +
         text_at(task, "submitted") + " by " + text_at(task, "submitted_by") +
         (text.empty() ? "" : "  " + text) + "\n";
}

// What a handler printed may hold anything.
std::string shown_result(const std::string& result) {
  std::string out;
  for (std::size_t from = 0; from < result.size();) {
    const auto end = std::min(result.find('\n', from), result.size());
    out += "  " + escape_controls(result.substr(from, end - from)) + "\n";
    from = end + 1;
  }
  return out;
}

std::string details(const Json& task) {
  std::string out = task_line(task);
  for (const char* name :
       {"priority", "repeatable", "credential", "seconds", "not_before", "changed"}) {
    const auto text = text_at(task, name);
    if (!text.empty()) out += std::string(name) + ": " + text + "\n";
  }
  if (task.contains("input") && task["input"].is_null())
    return out + "input and result: visible to the submitter, operators and admins only\n";
  out += "input: " + text_at(task, "input") + "\n";
  const auto result = text_at(task, "result");
  return out + (result.empty() ? "" : "result:\n" + shown_result(result));
}

std::string task_path(const std::string& id, const char* verb = "") {
  return "/v1/tasks/" + path_segment(id) + verb;
}

Json read_input_object(const std::string& source) {
  if (source.empty()) return Json::object();
  const SecretBytes text = read_input(source, kMaxInput);
  Json parsed = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!parsed.is_object())
    throw Error(Code::kUsage, source + " is not a JSON object such as {\"release\":\"7\"}");
  return parsed;
}

bool has_ended(const Json& task) {
  const auto state = text_at(task, "state");
  return state != "queued" && state != "leased" && state != "started";
}

// Waits until the task has ended; the exit status reports whether it succeeded.
void wait_for(Session& session, InstanceClient& client, const TaskOptions& options,
              const std::string& id) {
  const PollUntilTimeout patience(options.timeout);
  Json task = client.call("GET", task_path(id));
  while (!has_ended(task)) {
    patience.rest("the task is " + text_at(task, "state") +
                  " and continues: keyagent instance task show " + id);
    task = client.call("GET", task_path(id));
  }
  if (text_at(task, "state") != "done") session.exit_status = exit_code(Code::kPartial);
  session.tell(task, details(task));
}

void run_submit(Session& session, const InstanceOptions& instance, const TaskOptions& options) {
  Json body{{"handler", options.handler},
            {"agent", options.agent},
            {"group", options.group},
            {"input", read_input_object(options.input)},
            {"credential", options.credential},
            {"priority", options.priority},
            {"repeatable", options.repeatable},
            {"attempts", options.attempts},
            {"seconds", options.seconds},
            {"not_before", options.at},
            {"key", options.key}};
  auto client = client_of(instance);
  const Json answer = client.call("POST", "/v1/tasks", body);
  const auto id = text_at(answer, "id");
  if (!options.wait) return session.tell(answer, "task " + id + " is " + text_at(answer, "state"));
  session.note("task " + id + " is " + text_at(answer, "state"));
  wait_for(session, client, options, id);
}

void run_list(Session& session, const InstanceOptions& instance, const TaskOptions& options) {
  auto client = client_of(instance);
  const auto target = "/v1/tasks?count=" + std::to_string(kPage) +
                      "&state=" + path_segment(options.state) +
                      "&agent=" + path_segment(options.agent) +
                      "&handler=" + path_segment(options.handler) + "&after=";
  Json answer = client.call("GET", target);
  for (Json page = answer; page.at("tasks").size() == kPage;) {
    page = client.call("GET", target + text_at(page.at("tasks").back(), "id"));
    for (const auto& each : page.at("tasks")) answer["tasks"].push_back(each);
  }
  Table table({"ID", "STATE", "HANDLER", "TARGET", "AGENT", "ATTEMPT", "SUBMITTED", "BY", "TEXT"});
  for (const auto& each : answer.at("tasks"))
    table.add({text_at(each, "id"),
               text_at(each, "state") + (each.value("cancelling", false) ? " (cancelling)" : ""),
               text_at(each, "handler"), text_at(each, "target"), text_at(each, "agent"),
               text_at(each, "attempt") + " of " + text_at(each, "attempts"),
               text_at(each, "submitted"), text_at(each, "submitted_by"), text_at(each, "text")});
  auto text = table.text_or("none\n");
  std::string counts;
  for (const auto& [state, count] : answer.at("waiting").items())
    counts += "  " + state + " " + count.dump();
  if (!counts.empty()) text += "all:" + counts + "\n";
  for (const auto& pause : answer.at("pauses"))
    text += "paused: " + pause.get<std::string>() + "\n";
  session.tell(answer, text);
}

void run_show(Session& session, const InstanceOptions& instance, const TaskOptions& options) {
  const Json task = client_of(instance).call("GET", task_path(options.id));
  session.tell(task, details(task));
}

void run_cancel(Session& session, const InstanceOptions& instance, const TaskOptions& options) {
  const Json answer = client_of(instance).call("POST", task_path(options.id, "/cancel"));
  const auto state = text_at(answer, "state");
  session.tell(answer,
               state == "cancelled"
                   ? "task " + options.id + " is cancelled"
                   : "task " + options.id +
                         " is running: its agent is ordered to end it, then it is cancelled");
}

void run_retry(Session& session, const InstanceOptions& instance, const TaskOptions& options) {
  const Json answer = client_of(instance).call("POST", task_path(options.id, "/retry"));
  session.tell(answer, "task " + options.id + " is " + text_at(answer, "state") + " again");
}

void run_pause(Session& session, const InstanceOptions& instance, const TaskOptions& options,
               const char* verb) {
  const Json answer =
      client_of(instance).call("POST", std::string("/v1/tasks/") + verb, {{"what", options.what}});
  std::string paused;
  for (const auto& each : answer.at("pauses")) paused += " " + each.get<std::string>();
  session.tell(answer, "paused:" + (paused.empty() ? " nothing" : paused) + "\n" + options.what +
                           ": " + text_at(answer, "running") + " not ended yet\n");
}

using RunOnTask = void (*)(Session&, const InstanceOptions&, const TaskOptions&);

void add_submit(CLI::App& task, TaskOptions& o, const std::function<void()>& run) {
  auto* submit = add_command(
      task, "submit", "submit a task for a handler, on one agent or on any agent of a group",
      "  keyagent instance task submit deploy --agent web1 --input release.json --wait\n"
      "  echo '{\"release\":\"7\"}' | keyagent instance task submit deploy --group web --input -\n"
      "  keyagent instance task submit report --agent web1 --repeatable --at "
      "2026-12-01T04:00:00Z --key report-2026-12",
      run);
  submit->add_option("HANDLER", o.handler, "handler, as named in the agent's worker.yml")
      ->required();
  auto* agent = submit->add_option("--agent", o.agent, "agent that runs the task");
  submit->add_option("--group", o.group, "or any agent of this group, the first that takes it")
      ->excludes(agent);
  submit->add_option("--input", o.input,
                     "file with a JSON object (64 KiB, no secrets); - is standard input");
  submit->add_option("--credential", o.credential,
                     "credential for the handler, if its host's policy and worker.yml allow it");
  submit->add_option("--priority", o.priority, "higher runs first (0)")
      ->check(CLI::Range(-100, 100));
  submit->add_flag("--repeatable", o.repeatable,
                   "start it again after a failure, or when its agent was lost while it ran");
  submit->add_option("--attempts", o.attempts, "maximum number of attempts (5)")
      ->check(CLI::Range(1, 100));
  submit->add_option("--seconds", o.seconds, "time limit; 0: set by the worker")
      ->check(CLI::Range(0, 7 * 24 * 3600));
  submit->add_option("--at", o.at, "earliest start, such as 2026-12-01T04:00:00Z");
  submit->add_option("--key", o.key,
                     "idempotency key: a repeated submission returns the same task");
  submit->add_flag("--wait", o.wait, "wait until it has ended; exit status 7 unless it is done");
  submit->add_option("--timeout", o.timeout, "seconds to wait; 0: no limit");
}

}  // namespace

void add_instance_task_commands(CLI::App& instance, Session& session,
                                const std::shared_ptr<InstanceOptions>& options) {
  auto* task = instance.add_subcommand("task", "manage work for programs on the agents' hosts");
  task->require_subcommand(1);
  const auto own = std::make_shared<TaskOptions>();
  auto& o = *own;
  const auto with = [&session, options, own](RunOnTask run) {
    return [run, &session, options, own] { run(session, *options, *own); };
  };
  add_submit(*task, o, with(run_submit));
  auto* list = add_command(*task, "list", "list tasks, queue lengths and pauses",
                           "  keyagent instance task list --state failed\n"
                           "  keyagent instance task list --agent web1 --json",
                           with(run_list));
  list->add_option("--state", o.state,
                   "queued, leased, started, done, failed, unknown or cancelled")
      ->check(
          CLI::IsMember({"queued", "leased", "started", "done", "failed", "unknown", "cancelled"}));
  list->add_option("--agent", o.agent, "agent that has the task, or that it is for");
  list->add_option("--handler", o.handler, "only tasks of this handler");
  const auto of_one = [&](const char* name, const char* what, const char* example, RunOnTask run) {
    add_command(*task, name, what, example, with(run))
        ->add_option("ID", o.id, "id of the task")
        ->required();
  };
  of_one("show", "show one task, with its input and result", "  keyagent instance task show 5f0c…",
         run_show);
  of_one("cancel", "cancel a task; a running one is ended by its agent",
         "  keyagent instance task cancel 5f0c…", run_cancel);
  of_one("retry", "retry a failed or unknown task, although it may have been done",
         "  keyagent instance task retry 5f0c…", run_retry);
  const auto of_what = [&](const char* name, const char* what, const char* example, RunOnTask run) {
    add_command(*task, name, what, example, with(run))
        ->add_option("WHAT", o.what, "all, agent:ID or handler:NAME")
        ->required();
  };
  of_what("pause", "pause: hand out no tasks; running tasks continue (0 left: drained)",
          "  keyagent instance task pause agent:web1\n  keyagent instance task pause all",
          [](Session& s, const InstanceOptions& i, const TaskOptions& t) {
            run_pause(s, i, t, "pause");
          });
  of_what("resume", "resume what was paused", "  keyagent instance task resume agent:web1",
          [](Session& s, const InstanceOptions& i, const TaskOptions& t) {
            run_pause(s, i, t, "resume");
          });
}

}  // namespace keyagent::cli
