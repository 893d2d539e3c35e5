#pragma once
// The live links of agents to this replica: one a key.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/instance/json.h"
#include "agent/tls/server.h"

namespace keyagent::instance {

// Thread-safe.
class Links {
 public:
  struct Live {
    std::string agent;
    tls::Peer peer;
    WallTime since, heartbeat;
    bool busy = false;
  };

  // A second link of an agent ends the first. Returns the first one's address, or empty.
  std::string enter(const std::string& agent, std::shared_ptr<tls::Link> link, WallTime now);
  // Only the link that is the agent's now.
  void leave(const std::string& agent, const tls::Link* link);
  void beat(const std::string& agent, WallTime now);
  bool send(const std::string& agent, const Json& message);
  void close(const std::string& agent, const std::string& reason);
  std::optional<Live> find(const std::string& agent) const;
  std::vector<std::string> agents() const;

 private:
  struct Entry {
    std::shared_ptr<tls::Link> link;
    Live live;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // guarded by mutex_
};

}  // namespace keyagent::instance
