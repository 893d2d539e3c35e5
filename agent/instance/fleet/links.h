// SPDX-License-Identifier: Apache-2.0
#pragma once
// The live links of agents: one per agent over all replicas. The store holds which one; this class
// has the links of this replica.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/instance/common/json.h"
#include "agent/instance/fleet/followers.h"
#include "agent/store/store.h"
#include "agent/tls/server.h"

namespace keyagent::instance {

// Thread-safe. Throws what the store throws; a link that could not be noted there is not kept.
class Links {
 public:
  // A heartbeat that is three periods old was the last one.
  Links(store::Store& store, const Clock& clock, std::chrono::milliseconds heartbeat,
        Followers& followers);

  // The agent's newest link ends its others, wherever they are. `welcome` is the first message on
  // it. Returns the one that it ended.
  std::optional<store::AgentLink> enter(const std::string& agent, std::shared_ptr<tls::Link> link,
                                        const Json& welcome);
  // Counts a link of this key that has not sent hello, while the result is held. Throws
  // Error{kBusy}: there are kMaxUngreeted.
  static constexpr int kMaxUngreeted = 4;
  std::shared_ptr<void> await_hello(const std::string& kid);
  // Only if it is the agent's link.
  void leave(const std::string& agent, const tls::Link* link);
  // False: the link is not the agent's anymore, and is closed.
  bool beat(const std::string& agent, const tls::Link* link);

  // To the agent, if its link is here.
  bool send(const std::string& agent, const Json& message);
  // Once on each link.
  bool send_order(const std::string& agent, std::int64_t order, const Json& message);
  void close(const std::string& agent, const std::string& reason);
  bool has(const std::string& agent) const;
  std::vector<std::string> agents() const;

  // Compares the links that are here with the store; of one agent, or (empty) of all. Closes those
  // that are not to be: a newer one is elsewhere, the agent is not trusted, its key is another.
  void look(const std::string& agent);

  // The agent's link at any replica, unless it has ended or its replica has.
  std::optional<store::AgentLink> find(const std::string& agent) const;
  // This process, for the store and for people.
  const std::string& replica() const { return replica_; }

 private:
  struct Entry {
    std::shared_ptr<tls::Link> link;
    std::int64_t session = 0;
    std::int64_t news = 0;          // reported so far
    std::set<std::int64_t> orders;  // sent on this link
  };
  bool is_alive(const store::AgentLink& link) const;
  std::shared_ptr<tls::Link> link_of(const std::string& agent) const;
  void judge(const std::string& agent, const Entry& entry, const store::LinkStatus* standing);

  store::Store& store_;
  const Clock& clock_;
  Followers& followers_;
  const std::chrono::milliseconds heartbeat_;
  const std::string replica_;
  mutable Mutex mutex_;
  std::map<std::string, Entry> entries_ GUARDED_BY(mutex_);
  std::map<std::string, int> ungreeted_ GUARDED_BY(mutex_);  // by kid
};

}  // namespace keyagent::instance
