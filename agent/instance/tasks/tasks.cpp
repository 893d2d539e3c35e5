// SPDX-License-Identifier: Apache-2.0
// What people do with tasks; the agents' side is in task_leases.cpp.

#include "agent/instance/tasks/tasks.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/instance/common/config.h"
#include "agent/instance/common/times.h"
#include "agent/instance/fleet/trust.h"
#include "agent/store/agents.h"
#include "agent/store/credentials.h"
#include "agent/store/restoration.h"
#include "agent/store/tasks.h"

namespace keyagent::instance {
namespace {

constexpr int kTries = 8;
constexpr std::size_t kMaxInput = 64 * 1024, kMaxKey = 200;
constexpr std::int64_t kLongestRun = 7 * 24 * 3600;

bool contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string read_target(const Json& request) {
  const auto agent = text_of(request, "agent", ""), group = text_of(request, "group", "");
  if (agent.empty() == group.empty())
    throw Error(Code::kUsage, "a task needs either an 'agent' or a 'group'");
  return agent.empty() ? "group:" + group : "agent:" + agent;
}

std::string read_input(const Json& request) {
  const auto found = request.find("input");
  const Json input = found == request.end() || found->is_null() ? Json::object() : *found;
  if (!input.is_object()) throw Error(Code::kUsage, "'input' must be a JSON object");
  auto text = input.dump();
  if (text.size() > kMaxInput) throw Error(Code::kUsage, "'input' exceeds 64 KiB");
  return text;
}

// Seconds will do.
std::optional<WallTime> read_time(std::string text) {
  if (text.empty()) return std::nullopt;
  if (text.size() == 20 && text.ends_with('Z')) text.insert(19, ".000");
  return parse_time_of_user(text);
}

// Of all that was asked: the same key means the same task only when this is the same.
std::string digest_of(const store::Task& task, const std::optional<WallTime>& not_before) {
  const nlohmann::json asked{
      task.handler,   task.target,   nlohmann::json::parse(task.input),      task.credential,
      task.priority,  task.attempts, not_before ? rfc3339(*not_before) : "", task.seconds,
      task.repeatable};
  const auto text = asked.dump();
  return to_base64url(sha256(as_bytes(text)));
}

Json describe(const store::Task& task) {
  const bool waits = task.not_before > task.submitted;
  return {{"id", task.id},
          {"handler", task.handler},
          {"target", task.target},
          {"agent", task.agent},
          {"state", task.state},
          {"attempt", task.attempt},
          {"attempts", task.attempts},
          {"priority", task.priority},
          {"repeatable", task.repeatable},
          {"credential", task.credential},
          {"seconds", task.seconds},
          {"cancelling", task.cancelling},
          {"text", task.text},
          {"submitted_by", task.submitted_by},
          {"submitted", time_json(task.submitted)},
          {"changed", time_json(task.changed)},
          {"not_before", waits ? time_json(task.not_before) : Json()}};
}

void check_pause(const std::string& what) {
  const bool right = what == "all" || (what.starts_with("agent:") && is_id(what.substr(6))) ||
                     (what.starts_with("handler:") && KeyName::parse(what.substr(8)));
  if (!right) throw Error(Code::kUsage, "'what' must be all, agent:ID or handler:NAME");
}

}  // namespace

Tasks::Tasks(store::Store& store, Links& links, Recorder& recorder, const Clock& clock,
             const TaskRules& rules)
    : store_(store), links_(links), recorder_(recorder), clock_(clock), rules_(rules) {}

store::Task Tasks::require(const std::string& id) const {
  auto task = store_.tasks().find(id);
  if (!task) throw Error(Code::kUsage, "there is no task '" + escape_controls(id) + "'");
  return *std::move(task);
}

store::Task Tasks::change(const std::string& id, const Edit& edit) {
  for (int i = 0; i < kTries; ++i) {
    auto task = require(id);
    std::optional<store::Event> event;
    if (!edit(task, event)) return task;
    if (!store_.tasks().move(task, event)) continue;
    if (event) Recorder::say(*event);
    return task;
  }
  throw Error(Code::kBusy, "the task was changed concurrently; try again");
}

bool Tasks::step(store::Task& task, TaskEvent event) const {
  const auto state = task_state_of(task.state);
  if (!state) throw Error(Code::kIntegrity, "the store has a task in the state " + task.state);
  const TaskFacts facts{task.repeatable, task.attempt < task.attempts, task.cancelling};
  const auto next = after(*state, event, facts);
  if (!next) return false;
  const auto now = clock_.now();
  task.state = name_of(next->to);
  task.cancelling = next->cancelling || (next->to == *state && task.cancelling);
  task.changed = now;
  if (next->to == TaskState::kQueued) {
    task.not_before = now;
    if (next->wait) task.not_before += wait_after(task.attempt, random_bytes(1)[0]);
  }
  if (next->uncounted) --task.attempt;
  return true;
}

Json Tasks::submit(const Json& request, const std::string& by) {
  store::Task task;
  task.id = to_hex(random_bytes(16));
  task.handler = text_of(request, "handler");
  if (!KeyName::parse(task.handler))
    throw Error(Code::kUsage, "a handler name must match [a-z0-9][a-z0-9._-]{0,62}");
  task.target = read_target(request);
  task.input = read_input(request);
  task.credential = text_of(request, "credential", "");
  task.priority = number_of(request, "priority", 0, -100, 100);
  task.repeatable = flag_of(request, "repeatable", false);
  task.attempts = number_of(request, "attempts", 5, 1, 100);
  task.seconds = number_of(request, "seconds", 0, 0, kLongestRun);
  task.key = text_of(request, "key", "");
  if (task.key.size() > kMaxKey) throw Error(Code::kUsage, "'key' exceeds 200 bytes");
  const auto not_before = read_time(text_of(request, "not_before", ""));
  task.digest = digest_of(task, not_before);
  task.state = name_of(TaskState::kQueued);
  task.submitted_by = by;
  task.submitted = task.changed = clock_.now();
  // When it may be taken: tick() uses it to find the agents to notify.
  task.not_before = std::max(not_before.value_or(task.submitted), task.submitted);
  check_target(task.target);
  if (!task.credential.empty()) check_credential(task.credential);
  const auto event = recorder_.make(Outcome::kDone, "user " + by, "task.submit", task.id,
                                    task.handler + " for " + task.target);
  const auto added = store_.tasks().add(task, rules_.max_open, event);
  if (!added)
    throw Error(Code::kBusy, std::to_string(rules_.max_open) +
                                 " tasks have not ended; wait for some to end, or cancel some");
  if (added->id != task.id && added->digest != task.digest)
    throw Error(Code::kExists, "you used this key for another task, " + added->id);
  if (added->id == task.id) {
    Recorder::say(event);
    if (task.not_before <= task.submitted) tell(task.target);
  }
  return {{"id", added->id}, {"state", added->state}};
}

void Tasks::check_target(const std::string& target) const {
  if (target.starts_with("agent:")) {
    const auto agent = store_.agents().find(target.substr(6));
    if (!agent)
      throw Error(Code::kUsage, "there is no agent '" + escape_controls(target.substr(6)) + "'");
    if (agent->state == name_of(Trust::kRevoked) || agent->state == name_of(Trust::kRejected))
      throw Error(Code::kKeyState, "the agent " + agent->id + " is " + agent->state);
    return;
  }
  const auto agents = store_.agents().all();
  if (std::none_of(agents.begin(), agents.end(),
                   [&](const auto& each) { return contains(each.groups, target.substr(6)); }))
    throw Error(Code::kUsage,
                "no agent is in the group '" + escape_controls(target.substr(6)) + "'");
}

void Tasks::check_credential(const std::string& name) const {
  const auto credential = store_.credentials().find(name);
  if (!credential || credential->removed)
    throw Error(Code::kUsage, "there is no credential '" + escape_controls(name) + "'");
}

Json Tasks::list(store::TaskFilter filter, const std::string& after) const {
  if (!filter.state.empty() && !task_state_of(filter.state))
    throw Error(Code::kUsage,
                "'state' must be queued, leased, started, done, failed, unknown or cancelled");
  if (!after.empty()) filter.after = require(after).number;
  Json tasks = Json::array(), counts = Json::object(), paused = Json::array();
  for (const auto& each : store_.tasks().list(filter)) tasks.push_back(describe(each));
  for (const auto& [state, count] : store_.tasks().count_by_state()) {
    if (state != name_of(TaskState::kDone) && state != name_of(TaskState::kCancelled))
      counts[state] = count;
  }
  for (const auto& each : store_.tasks().pauses()) paused.push_back(each.what);
  return {{"tasks", tasks}, {"waiting", counts}, {"pauses", paused}};
}

Json Tasks::show(const std::string& id, const AuthenticatedUser& person) const {
  const auto task = require(id);
  Json out = describe(task);
  const bool visible = task.submitted_by == person.name || has(person.role, Right::kTasks);
  out["input"] = visible ? Json::parse(task.input) : Json();
  out["result"] = visible ? Json(task.result) : Json();
  return out;
}

Json Tasks::cancel(const std::string& id, const std::string& by) {
  const auto task = change(id, [&](store::Task& each, std::optional<store::Event>& event) {
    const auto before = each.state;
    const bool asked = each.cancelling;
    if (!step(each, TaskEvent::kCancel))
      throw Error(Code::kKeyState, "the task is " + each.state + ": it cannot be cancelled");
    if (before == each.state && asked == each.cancelling) return false;
    each.text = "cancelled by " + by;
    event = recorder_.make(Outcome::kDone, "user " + by, "task.cancel", id, "it was " + before);
    return true;
  });
  return {{"state", task.state}, {"cancelling", task.cancelling}};
}

Json Tasks::retry(const std::string& id, const std::string& by) {
  const auto task = change(id, [&](store::Task& each, std::optional<store::Event>& event) {
    const auto before = each.state;
    if (!step(each, TaskEvent::kRetry))
      throw Error(Code::kKeyState,
                  "the task is " + each.state + ": only failed and unknown tasks can be retried");
    each.attempts = std::max(each.attempts, each.attempt + 1);
    event = recorder_.make(Outcome::kDone, "user " + by, "task.retry", id, "it was " + before);
    return true;
  });
  tell(task.target);
  return {{"state", task.state}};
}

Json Tasks::pauses(const std::string& what) const {
  Json paused = Json::array();
  for (const auto& each : store_.tasks().pauses()) paused.push_back(each.what);
  return {{"pauses", paused}, {"running", store_.tasks().count_running(what)}};
}

Json Tasks::pause(const std::string& what, const std::string& by) {
  check_pause(what);
  const auto event = recorder_.make(Outcome::kDone, "user " + by, "task.pause", what);
  if (store_.tasks().pause({what, by, clock_.now()}, event)) Recorder::say(event);
  return pauses(what);
}

Json Tasks::resume(const std::string& what, const std::string& by) {
  check_pause(what);
  const auto event = recorder_.make(Outcome::kDone, "user " + by, "task.resume", what);
  if (store_.tasks().resume(what, event)) Recorder::say(event);
  for (const auto& target : store_.tasks().waiting_targets(WallTime{}, clock_.now())) tell(target);
  return pauses(what);
}

void Tasks::tell(const std::string& target) {
  if (store_.restoration().find()) return;
  static const Json kMessage{{"type", "tasks"}};
  if (target.starts_with("agent:")) {
    links_.send(target.substr(6), kMessage);
    return;
  }
  for (const auto& agent : store_.agents().all()) {
    if (contains(agent.groups, target.substr(6))) links_.send(agent.id, kMessage);
  }
}

}  // namespace keyagent::instance
