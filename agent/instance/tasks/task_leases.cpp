// SPDX-License-Identifier: Apache-2.0
// What agents do with tasks, and what becomes of those whose agent was lost.

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/base/log.h"
#include "agent/instance/tasks/tasks.h"
#include "agent/store/restoration.h"
#include "agent/store/tasks.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxHandlers = 64, kMaxText = 500, kMaxResult = 64 * 1024;
constexpr std::size_t kLapsedAtOnce = 1000;
constexpr auto kForgetEvery = 60s;

// One answer, whatever is wrong: nothing is learnt of the tasks of others.
[[noreturn]] void refuse_lease() {
  throw Error(Code::kKeyState, "the lease of this task has expired");
}

std::vector<std::string> targets_of(const store::Agent& agent) {
  std::vector<std::string> targets{"agent:" + agent.id};
  for (const auto& group : agent.groups) targets.push_back("group:" + group);
  return targets;
}

TaskEvent read_outcome(const Json& request) {
  const auto outcome = text_of(request, "outcome");
  if (outcome == "done") return TaskEvent::kSaysDone;
  if (outcome == "failed") return TaskEvent::kSaysFailed;
  if (outcome == "retry") return TaskEvent::kSaysRetry;
  throw Error(Code::kUsage, "'outcome' must be done, failed or retry");
}

std::int64_t seconds_of(std::chrono::milliseconds life) {
  return std::chrono::floor<std::chrono::seconds>(life).count();
}

}  // namespace

Json Tasks::take(const store::Agent& agent, const Json& request) {
  store::TaskClaim claim;
  claim.agent = agent.id;
  claim.auth_kid = agent.auth_kid;
  claim.targets = targets_of(agent);
  claim.handlers = texts_of(request, "handlers");
  if (claim.handlers.empty() || claim.handlers.size() > kMaxHandlers)
    throw Error(Code::kUsage, "'handlers' must name 1 to 64 handlers");
  for (const auto& each : claim.handlers) {
    if (!KeyName::parse(each))
      throw Error(Code::kUsage, "a handler name must match [a-z0-9][a-z0-9._-]{0,62}");
  }
  const SecretBytes lease = random_secret(32);
  claim.lease = sha256(lease);
  claim.now = clock_.now();
  claim.life = rules_.lease;
  const auto task = store_.tasks().claim(claim);
  if (!task) return {{"task", nullptr}};
  return {{"task",
           {{"id", task->id},
            {"handler", task->handler},
            {"input", Json::parse(task->input)},
            {"credential", task->credential},
            {"repeatable", task->repeatable},
            {"attempt", task->attempt},
            {"seconds", task->seconds}}},
          {"lease", to_base64url(lease)},
          {"lease_s", seconds_of(claim.life)}};
}

store::Task Tasks::change_leased(const std::string& agent, const std::string& id,
                                 const Json& request, const Edit& edit) {
  const auto lease = sha256(bytes_of(request, "lease"));
  if (!store_.tasks().find(id)) refuse_lease();
  return change(id, [&](store::Task& task, std::optional<store::Event>& event) {
    if (task.agent != agent || task.lease.empty() || !equal_secret(task.lease, lease))
      refuse_lease();
    return edit(task, event);
  });
}

Json Tasks::extended(const std::string& agent, const std::string& id, const Json& request,
                     TaskEvent said) {
  change_leased(agent, id, request, [&](store::Task& task, std::optional<store::Event>& event) {
    const auto before = task.state;
    if (!step(task, said)) refuse_lease();
    task.lease_life = rules_.lease;
    task.lease_until = clock_.now() + rules_.lease;
    if (before != task.state) {
      task.text.clear();
      event = recorder_.make(Outcome::kDone, "agent " + agent, "task.start", id,
                             task.handler + ", attempt " + std::to_string(task.attempt));
    }
    return true;
  });
  return {{"lease_s", seconds_of(rules_.lease)}};
}

Json Tasks::start(const std::string& agent, const std::string& id, const Json& request) {
  return extended(agent, id, request, TaskEvent::kStart);
}

Json Tasks::keep(const std::string& agent, const std::string& id, const Json& request) {
  return extended(agent, id, request, TaskEvent::kKeep);
}

// failed and unknown wait for an operator: an alarm, once.
store::Event Tasks::end_of(const store::Task& task, const std::string& actor) const {
  const auto state = task_state_of(task.state);
  const bool dead = state == TaskState::kFailed || state == TaskState::kUnknown;
  const bool good = state == TaskState::kDone || state == TaskState::kCancelled;
  return recorder_.make(dead   ? Outcome::kAlarm
                        : good ? Outcome::kDone
                               : Outcome::kFailed,
                        actor, "task." + task.state, task.id,
                        task.handler + ", attempt " + std::to_string(task.attempt) + " of " +
                            std::to_string(task.attempts) +
                            (task.text.empty() ? "" : ": " + task.text));
}

Json Tasks::end(const std::string& agent, const std::string& id, const Json& request) {
  const auto event_said = read_outcome(request);
  const auto text = text_of(request, "text", ""), result = text_of(request, "result", "");
  if (result.size() > kMaxResult) throw Error(Code::kUsage, "'result' exceeds 64 KiB");
  const std::string all = Json::array({name_of(event_said), text, result}).dump();
  const Bytes said = sha256(as_bytes(all));
  const auto task =
      change_leased(agent, id, request, [&](store::Task& each, std::optional<store::Event>& event) {
        // An outcome was reported with this lease already: accept only the same one.
        if (!each.said.empty()) {
          if (each.said != said) refuse_lease();
          return false;
        }
        if (!step(each, event_said)) refuse_lease();
        each.said = said;
        each.text = escape_controls(text.substr(0, kMaxText));
        each.result = result;
        event = end_of(each, "agent " + agent);
        return true;
      });
  return {{"state", task.state}};
}

void Tasks::greet(const store::Agent& agent) {
  if (store_.tasks().any_waiting(targets_of(agent), clock_.now()))
    links_.send(agent.id, {{"type", "tasks"}});
}

// Leases end by wall time, in rows that replicas share. After a start of this process, or when the
// wall clock jumped relative to the steady one, no lease expires for the longest lease time: a
// running agent has extended its lease by then. After a jump back, leases that would last too long
// are shortened.
void Tasks::watch_clock() {
  const auto wall = clock_.now();
  const auto steady = clock_.now_steady();
  const auto jump = std::chrono::abs((wall - wall_) - (steady - steady_));
  if (!settled_ || jump > rules_.lease / 4) {
    if (settled_) log_warning("instance", "the clock has jumped; task leases restart");
    const auto longest = store_.tasks().settle_leases(wall, wall + kLongestTaskWait);
    quiet_until_ = steady + std::max(longest, rules_.lease);
    if (!settled_) called_ = wall;
    settled_ = true;
  }
  wall_ = wall;
  steady_ = steady;
}

void Tasks::lapse(const std::string& id) {
  change(id, [&](store::Task& task, std::optional<store::Event>& event) {
    const bool started = task.state == name_of(TaskState::kStarted);
    if (task.lease_until > wall_ || !step(task, TaskEvent::kLapse)) return false;
    task.text = "the agent " + task.agent + " was lost while it ran";
    if (!started) task.text = "its lease ran out before it was started";
    if (task.state == name_of(TaskState::kUnknown)) task.text += "; its outcome is unknown";
    event = end_of(task, "instance");
    return true;
  });
}

// Agents are notified of a task twice, a second apart: the clocks of replicas differ a little, and
// a request for nothing costs little.
void Tasks::call_waiting() {
  const auto now = clock_.now();
  for (const auto& target : store_.tasks().waiting_targets(std::min(called_, now) - 1s, now))
    tell(target);
  called_ = now;
}

// Uses the time that watch_clock() accepted: the clock may have jumped since.
void Tasks::tick() {
  if (store_.restoration().find()) {
    settled_ = false;
    return;
  }
  watch_clock();
  call_waiting();
  if (steady_ < quiet_until_) return;
  for (const auto& each : store_.tasks().lapsed(wall_, kLapsedAtOnce)) lapse(each.id);
  if (steady_ - forgot_ < kForgetEvery) return;
  store_.tasks().forget(wall_ - rules_.history);
  forgot_ = steady_;
}

}  // namespace keyagent::instance
