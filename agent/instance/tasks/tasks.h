// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tasks: submitted by users, leased to agents, ended with an outcome. Never lost, and started again
// only if they are repeatable, did not start, or an operator retries them (task_state.h).

#include <functional>
#include <optional>
#include <string>

#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/common/users.h"
#include "agent/instance/fleet/links.h"
#include "agent/instance/tasks/task_state.h"
#include "agent/store/store.h"
#include "agent/store/tasks.h"

namespace keyagent::instance {

struct TaskRules {
  std::chrono::milliseconds lease{std::chrono::seconds(60)};
  std::chrono::milliseconds history{std::chrono::hours(24 * 30)};
  std::size_t max_open = 100'000;
};

// Thread-safe but for tick(); all of it is in the store. Every change is one row's compare-and-set,
// with its event in the same transaction: replicas may do all of it at once.
class Tasks {
 public:
  Tasks(store::Store& store, Links& links, Recorder& recorder, const Clock& clock,
        const TaskRules& rules);

  // For people: API.md.
  Json submit(const Json& request, const std::string& by);
  // `after`: the id of the last task that is known, or empty.
  Json list(store::TaskFilter filter, const std::string& after) const;
  // Input and result are for the submitter, operators and admins; others get null for both.
  Json show(const std::string& id, const AuthenticatedUser& person) const;
  Json cancel(const std::string& id, const std::string& by);
  Json retry(const std::string& id, const std::string& by);
  Json pause(const std::string& what, const std::string& by);
  Json resume(const std::string& what, const std::string& by);

  // For an agent: API.md. Error{kKeyState} for every invalid lease.
  Json take(const store::Agent& agent, const Json& request);
  Json start(const std::string& agent, const std::string& id, const Json& request);
  Json keep(const std::string& agent, const std::string& id, const Json& request);
  Json end(const std::string& agent, const std::string& id, const Json& request);

  // Tells an agent that has come whether there is work.
  void greet(const store::Agent& agent);
  // Each second, of one thread: leases that ran out, work that may be taken now, what is forgotten.
  // While the store is restored from a backup (store::Restoration) no lease runs out: no one could
  // have extended it.
  void tick();

 private:
  // False: the task is left as it was.
  using Edit = std::function<bool(store::Task& task, std::optional<store::Event>& event)>;

  store::Task require(const std::string& id) const;
  // Changes the current state of the task, with its event; retried after a concurrent change.
  store::Task change(const std::string& id, const Edit& edit);
  // Applies the transition of the table; false: the table has none.
  bool step(store::Task& task, TaskEvent event) const;
  // The task, if this agent has it by the lease in `request`, changed by `edit`.
  store::Task change_leased(const std::string& agent, const std::string& id, const Json& request,
                            const Edit& edit);
  Json extended(const std::string& agent, const std::string& id, const Json& request,
                TaskEvent event);
  store::Event end_of(const store::Task& task, const std::string& actor) const;
  Json pauses(const std::string& what) const;
  void check_target(const std::string& target) const;
  void check_credential(const std::string& name) const;
  void tell(const std::string& target);
  void watch_clock();
  void lapse(const std::string& id);
  void call_waiting();

  store::Store& store_;
  Links& links_;
  Recorder& recorder_;
  const Clock& clock_;
  const TaskRules rules_;
  // Of tick's thread.
  bool settled_ = false;
  WallTime wall_{}, called_{};
  SteadyTime steady_{}, quiet_until_{}, forgot_{};
};

}  // namespace keyagent::instance
