// SPDX-License-Identifier: Apache-2.0
// Sessions of agents that follow each other, and an agent that runs twice (RELIABILITY 168).

#include "agent/store/agent_sessions.h"

#include "agent/base/error.h"
#include "agent/instance/fleet/agents.h"
#include "agent/store/agents.h"
#include "agent/store/restoration.h"

namespace keyagent::instance {

std::string Agents::continue_session(const store::Agent& agent, const Json& hello,
                                     const std::string& address) {
  constexpr std::size_t kMaxValue = 64;
  const auto last = text_of(hello, "session", ""), next = text_of(hello, "next_session", "");
  if (last.size() > kMaxValue || next.size() > kMaxValue)
    throw Error(Code::kUsage, "a session value may have at most 64 characters");
  // A store that was put back knows less than its agents; accepting it forgets their sessions.
  if (store_.restoration().find()) return {};
  if (store_.agent_sessions().advance(agent.id, agent.enrolled, last, next)) return next;
  const std::string why = "cloned: two agents continued from the same state of " + agent.id +
                          " (its state folder was copied, or restored from a backup)";
  store::AgentChange with{recorder_.make(
      Outcome::kAlarm, "agent " + agent.id, "agent.cloned", agent.id,
      "from " + address +
          "; both are suspended. Stop one of them, then: keyagent instance resume " + agent.id)};
  change(
      agent.id,
      [&](store::Agent& each) {
        if (each.auth_kid != agent.auth_kid || each.state != name_of(Trust::kTrusted))
          throw Error(Code::kKeyState, "the agent is " + each.state);
        each.state = name_of(Trust::kSuspended);
        each.reason = why;
      },
      with);
  links_.close(agent.id, "the agent is suspended: " + why);
  followers_.end_sessions(agent.auth_kid, why);
  store_.notify(agent.id);
  throw Error(Code::kKeyState, why + "; the instance's operator must resume it");
}

}  // namespace keyagent::instance
