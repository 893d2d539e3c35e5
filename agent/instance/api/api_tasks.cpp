// SPDX-License-Identifier: Apache-2.0
// The requests about tasks, of people and of agents.

#include <algorithm>

#include "agent/instance/api/api_routes.h"
#include "agent/store/tasks.h"

namespace keyagent::instance {
namespace {

constexpr std::int64_t kMaxTasksListed = 1000;

Answer list_tasks(const PeopleAsk& ask) {
  store::TaskFilter filter;
  filter.state = ask.query("state");
  filter.agent = ask.query("agent");
  filter.handler = ask.query("handler");
  filter.count =
      static_cast<std::size_t>(std::min<std::int64_t>(ask.number("count", 100), kMaxTasksListed));
  return json_answer(ask.parts.tasks.list(filter, ask.query("after")));
}

const PeopleRoute kTaskRoutes[] = {
    {"POST", "/v1/tasks", Right::kTasks,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.tasks.submit(ask.body, ask.person.name));
     }},
    {"GET", "/v1/tasks", Right::kRead, list_tasks},
    {"GET", "/v1/tasks/{}", Right::kRead,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.tasks.show(ask.ids[0], ask.person));
     }},
    {"POST", "/v1/tasks/pause", Right::kTasks,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.tasks.pause(text_of(ask.body, "what"), ask.person.name));
     }},
    {"POST", "/v1/tasks/resume", Right::kTasks,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.tasks.resume(text_of(ask.body, "what"), ask.person.name));
     }},
    {"POST", "/v1/tasks/{}/cancel", Right::kTasks,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.tasks.cancel(ask.ids[0], ask.person.name));
     }},
    {"POST", "/v1/tasks/{}/retry", Right::kTasks,
     [](const PeopleAsk& ask) {
       return json_answer(ask.parts.tasks.retry(ask.ids[0], ask.person.name));
     }},
};

const AgentRoute kAgents[] = {
    {"POST", "/v1/tasks/take",
     [](const AgentAsk& ask) { return ask.parts.tasks.take(ask.agent, ask.body); }},
    {"POST", "/v1/tasks/{}/start",
     [](const AgentAsk& ask) { return ask.parts.tasks.start(ask.agent.id, ask.ids[0], ask.body); }},
    {"POST", "/v1/tasks/{}/keep",
     [](const AgentAsk& ask) { return ask.parts.tasks.keep(ask.agent.id, ask.ids[0], ask.body); }},
    {"POST", "/v1/tasks/{}/end",
     [](const AgentAsk& ask) { return ask.parts.tasks.end(ask.agent.id, ask.ids[0], ask.body); }},
};

}  // namespace

std::span<const PeopleRoute> task_routes_of_people() {
  return kTaskRoutes;
}

std::span<const AgentRoute> task_routes_of_agents() {
  return kAgents;
}

}  // namespace keyagent::instance
