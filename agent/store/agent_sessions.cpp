// SPDX-License-Identifier: Apache-2.0
// Session values of agents: they reveal two copies of one agent.

#include "agent/store/agent_sessions.h"

#include "agent/store/shared_statements.h"

namespace keyagent::store {

// The first statement has the row's lock until the end: of two copies that come at once, one is
// second. A row of an earlier enrollment says nothing.
bool AgentSessions::advance(const std::string& agent, WallTime enrolled, const std::string& last,
                            const std::string& next) {
  return db_.write([&](Sql& sql) {
    if (!next.empty())
      sql.run(
          "INSERT INTO agent_sessions (agent, enrolled, value) VALUES (:agent, :enrolled, '') "
          "ON CONFLICT (agent) DO UPDATE SET value = agent_sessions.value",
          {{"agent", agent}, {"enrolled", enrolled}});
    const auto known = sql.first<std::string>(
        "SELECT value FROM agent_sessions WHERE agent = :agent AND enrolled = :enrolled",
        {{"agent", agent}, {"enrolled", enrolled}});
    // `next` is there when the answer to it was lost.
    if (known && !known->empty() && *known != last && *known != next) return false;
    if (!next.empty())
      sql.run("UPDATE agent_sessions SET enrolled = :enrolled, value = :value WHERE agent = :agent",
              {{"agent", agent}, {"enrolled", enrolled}, {"value", next}});
    return true;
  });
}

}  // namespace keyagent::store
