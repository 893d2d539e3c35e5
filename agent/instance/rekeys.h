#pragma once
// Rekeys that people order: of one agent, of groups, of all; canaries first, a failure halts the
// rest.

#include <string>

#include "agent/instance/json.h"
#include "agent/instance/links.h"
#include "agent/instance/recorder.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe. An order is in the store until it has ended; an agent that is away gets it when it
// comes.
class Rekeys {
 public:
  Rekeys(store::Store& store, Links& links, Recorder& recorder, const Clock& clock);

  // {"batch","rekeys"}
  Json order(const Json& request, const std::string& by);
  Json list(const std::string& batch) const;  // empty: all
  Json cancel(const std::string& batch, const std::string& by);

  // What an agent says of an order. Confirmed only when the instance itself trusts the new key.
  void report(const std::string& agent_id, const Json& message);
  // Sends what may be sent now: call it from time to time and when an agent has come.
  void pump();
  // The orders that the agent had already: again after it was away.
  void repeat(const std::string& agent_id);

 private:
  void send(store::Rekey rekey);
  void finish(store::Rekey rekey, const std::string& from, const std::string& state,
              const std::string& detail);

  store::Store& store_;
  Links& links_;
  Recorder& recorder_;
  const Clock& clock_;
};

}  // namespace keyagent::instance
