// SPDX-License-Identifier: Apache-2.0
#pragma once
// The second person: what one person asks for waits in the store until another one decides.

#include <functional>
#include <map>
#include <string>

#include "agent/instance/common/json.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/common/users.h"
#include "agent/store/store.h"

namespace keyagent::instance {

// Thread-safe once each kind has its handler. A decision and what follows from it are one
// transaction, in which everything is checked again.
class Decisions {
 public:
  struct Handler {
    Right ask, decide;  // which the one and the other person need, then and when it is decided
    // What the decision rests on, as it is now. Another value at the approval: failed.
    std::function<Json(const std::string& subject, const Json& request)> precondition;
    // Inside of the transaction. Throws Error: nothing is changed, and the decision stays pending.
    std::function<void(const std::string& subject, const Json& request, const std::string& asked_by,
                       const AuthenticatedUser& decider)>
        act;
    // After it, outside of the transaction; may be empty.
    std::function<void(const std::string& subject)> follow = {};
  };
  Decisions(store::Store& store, Recorder& recorder, const Clock& clock)
      : store_(store), recorder_(recorder), clock_(clock) {}
  void handle(const std::string& kind, Handler handler);

  // {"decision":{…}}: the new one, or the one of this person about the same that is pending.
  Json ask(const std::string& kind, const std::string& subject, const Json& request,
           const std::string& text, const AuthenticatedUser& person);
  Json list(const std::string& state, std::size_t count);
  Json show(const std::string& id);
  // By another person than the one who asked. The same again is answered alike and does nothing.
  Json approve(const std::string& id, const AuthenticatedUser& person);
  // Or by the one who asked.
  Json reject(const std::string& id, const std::string& reason, const AuthenticatedUser& person);
  // Each minute: pending decisions expire after a week; decided ones are deleted after 90 days.
  void tick();

 private:
  store::Decision require(const std::string& id) const;
  const Handler& handler_of(const std::string& kind) const;
  // The deciding user, with its current role from the store.
  AuthenticatedUser require_right(const std::string& name, Right right) const;
  void carry_out(store::Decision& decision, const AuthenticatedUser& person);
  store::Event event_of(const store::Decision& decision, const char* action, Outcome outcome,
                        const std::string& by) const;
  void fail(store::Decision decision, const std::string& why);

  store::Store& store_;
  Recorder& recorder_;
  const Clock& clock_;
  std::map<std::string, Handler> handlers_;
};

}  // namespace keyagent::instance
