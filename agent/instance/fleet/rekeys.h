// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rekeys that people order: of one agent, of groups, of all; canaries first, a failure halts the
// rest.

#include <string>

#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/fleet/links.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe. An order is in the store until it has ended; an agent that is away gets it when it
// comes. The replica that has the agent's link claims it in the store, where the limits of the
// batch hold for all replicas, and sends it.
class Rekeys {
 public:
  // For Store::notify(): something may be sent now. No agent is called so.
  static constexpr const char* kNotice = "/rekeys";

  Rekeys(store::Store& store, Links& links, Recorder& recorder, const Clock& clock);

  // {"batch","rekeys"}
  Json order(const Json& request, const std::string& by);
  Json list(const std::string& batch) const;  // empty: all
  Json cancel(const std::string& batch, const std::string& by);

  // Handles an agent's report on an order. Confirmed only when the instance itself trusts the new
  // key.
  void report(const std::string& agent_id, const Json& message);
  // Sends what may be sent now: call it from time to time and when an agent has come. Nothing is
  // sent while the store is restored from a backup (store::Restoration).
  void pump();
  // The orders that are in progress: once on each link of the agent, or (empty) of all agents.
  void repeat(const std::string& agent_id);

 private:
  void pump(const std::string& batch);
  void send(const store::Rekey& rekey);
  // False: the order is not in state `from` anymore.
  bool note(store::Rekey rekey, const Json& message);
  bool finish(store::Rekey rekey, const std::string& from, const std::string& state,
              const std::string& detail);

  store::Store& store_;
  Links& links_;
  Recorder& recorder_;
  const Clock& clock_;
};

}  // namespace keyagent::instance
